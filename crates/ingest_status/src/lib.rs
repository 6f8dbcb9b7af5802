//! The heartbeat document and the verdict on it, shared by producer and consumers.
