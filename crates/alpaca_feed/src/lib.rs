//! What to do next on one Alpaca connection, and how to read its frames; sans-IO.
