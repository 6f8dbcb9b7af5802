//! The fields that nearly every market-data message has.

use super::key::{self, Key};
use super::names::Names;
use super::reader::{Fault, Reader};
use crate::symbol::SymbolId;

/// Symbol and times of the message that is being read.
#[derive(Default)]
pub(super) struct Head {
    symbol: Option<SymbolId>,
    ts: Option<i64>,
    /// When Alpaca received it, if told.
    pub(super) received_ts: Option<i64>,
}

impl Head {
    /// Takes a field that the message's own decoder does not know; those that nobody knows are skipped.
    #[inline(always)]
    pub(super) fn field<'a, R: Reader<'a>>(
        &mut self,
        reader: &mut R,
        key: Key,
        names: &mut Names,
    ) -> Result<(), Fault> {
        match key {
            key::SYMBOL => self.symbol = Some(names.id(&reader.bytes()?)?),
            key::T => self.ts = Some(reader.time()?),
            key::R => self.received_ts = optional_time(reader)?,
            _ => reader.skip()?,
        }
        Ok(())
    }

    /// The symbol, which is required.
    #[inline]
    pub(super) fn symbol(&self) -> Result<SymbolId, Fault> {
        self.symbol.ok_or(Fault::Missing(key::SYMBOL))
    }

    /// The time, which is required.
    #[inline]
    pub(super) fn ts(&self) -> Result<i64, Fault> {
        self.ts.ok_or(Fault::Missing(key::T))
    }
}

/// A time that nobody promised: in another shape it counts as missing and costs the message nothing.
#[inline]
fn optional_time<'a, R: Reader<'a>>(reader: &mut R) -> Result<Option<i64>, Fault> {
    let start = reader.position();
    if let Ok(ts) = reader.time() {
        return Ok(Some(ts));
    }
    reader.rewind(start);
    reader.skip()?;
    Ok(None)
}
