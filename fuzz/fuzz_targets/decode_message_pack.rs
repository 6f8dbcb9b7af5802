//! Any bytes as a MessagePack frame: no panic, and what is malformed leaves a sample of bounded length.
//! Run: `cargo +nightly fuzz run decode_message_pack`
#![no_main]

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    let mut batch = Batch::default();
    Decoder::new(Symbols::new()).decode(Codec::MessagePack, frame, &mut batch);
    let sampled = batch.malformed.sample.is_some();
    assert_eq!(sampled, batch.malformed.count > 0);
    assert!(batch.malformed.sample.is_none_or(|sample| sample.chars().count() <= 200));
});
