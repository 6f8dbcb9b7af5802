//! A simulated Alpaca market-data venue over real TCP.
