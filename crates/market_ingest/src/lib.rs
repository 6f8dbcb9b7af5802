//! The market-data producer: Alpaca websocket to sinks, with a soft kill switch.
