//! What the operators decided: flags, holds and the edges between them.
