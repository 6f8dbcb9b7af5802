//! The columns of each table, in the order of its schema.

use std::io::Write;

use alpaca_feed::message::{Bar, Code, Conditions, Event, Overflow, Quote, Trade};
use bytes::Bytes;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedRowGroupWriter;

use super::super::chunk::Record;
use super::super::json::{Encoder, received_ts};
use super::super::key::letter;
use super::Table;

/// One row.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) record: Record<'a>,
    pub(super) epoch: u64,
}

/// Writes all columns of one row group.
pub(super) fn write_columns<W: Write + Send>(
    table: Table,
    rows: &[Row<'_>],
    encoder: &mut Encoder,
    group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<()> {
    let mut columns = Columns { rows, group };
    columns.text(|row, out| out.extend_from_slice(letter(row.record.event).as_bytes()))?;
    columns.text(|row, out| out.extend_from_slice(encoder.symbol(&row.record).as_bytes()))?;
    columns.number::<Int64Type>(|row| row.record.event.ts())?;
    columns.optional(|row| received_ts(row.record.event))?;
    match table {
        Table::Trades => trades(&mut columns)?,
        Table::Quotes => quotes(&mut columns)?,
        Table::Bars => bars(&mut columns)?,
        Table::Other => columns.text(|row, out| encoder.write(out, &row.record, row.epoch))?,
    }
    columns.text(|row, out| out.extend_from_slice(encoder.job(&row.record).as_bytes()))?;
    columns.text(|row, out| out.extend_from_slice(row.record.origin.as_str().as_bytes()))?;
    columns.number::<Int64Type>(|row| row.epoch.cast_signed())?;
    columns.optional(|row| row.record.seq.map(u64::cast_signed))?;
    columns.text(|row, out| out.extend_from_slice(encoder.key(&row.record).as_bytes()))
}

fn trades<W: Write + Send>(columns: &mut Columns<'_, '_, '_, W>) -> Result<()> {
    columns.optional(|row| trade(row).and_then(|trade| trade.id).map(u64::cast_signed))?;
    columns.code("x", |row| trade(row).map(|trade| trade.exchange))?;
    columns.number::<DoubleType>(|row| trade(row).map_or(0.0, |trade| trade.price))?;
    columns.number::<DoubleType>(|row| trade(row).map_or(0.0, |trade| trade.size))?;
    columns.conditions(|row| trade(row).map(|trade| trade.conditions))?;
    columns.code("z", |row| trade(row).map(|trade| trade.tape))?;
    columns.code("tks", |row| trade(row).map(|trade| trade.taker_side))
}

fn quotes<W: Write + Send>(columns: &mut Columns<'_, '_, '_, W>) -> Result<()> {
    columns.code("bx", |row| quote(row).map(|quote| quote.bid_exchange))?;
    columns.number::<DoubleType>(|row| quote(row).map_or(0.0, |quote| quote.bid_price))?;
    columns.number::<DoubleType>(|row| quote(row).map_or(0.0, |quote| quote.bid_size))?;
    columns.code("ax", |row| quote(row).map(|quote| quote.ask_exchange))?;
    columns.number::<DoubleType>(|row| quote(row).map_or(0.0, |quote| quote.ask_price))?;
    columns.number::<DoubleType>(|row| quote(row).map_or(0.0, |quote| quote.ask_size))?;
    columns.conditions(|row| quote(row).map(|quote| quote.conditions))?;
    columns.code("z", |row| quote(row).map(|quote| quote.tape))
}

fn bars<W: Write + Send>(columns: &mut Columns<'_, '_, '_, W>) -> Result<()> {
    let numbers: [fn(&Bar) -> f64; 6] =
        [|bar| bar.open, |bar| bar.high, |bar| bar.low, |bar| bar.close, |bar| bar.volume, |bar| bar.vwap];
    for number in numbers {
        columns.number::<DoubleType>(|row| bar(row).map_or(0.0, number))?;
    }
    columns.number::<Int64Type>(|row| bar(row).map_or(0, |bar| bar.trade_count.cast_signed()))
}

fn trade<'a>(row: &Row<'a>) -> Option<&'a Trade> {
    row.record.event.trade()
}

fn quote<'a>(row: &Row<'a>) -> Option<&'a Quote> {
    row.record.event.quote()
}

fn bar<'a>(row: &Row<'a>) -> Option<&'a Bar> {
    if let Event::Bar(bar) = row.record.event { Some(bar) } else { None }
}

/// The texts of a field that did not fit the flat message.
fn overflow<'a>(event: &'a Event, field: &str) -> Option<&'a [String]> {
    let overflow: &[Overflow] = if let Event::WideTrade(wide) = event {
        &wide.overflow
    } else if let Event::WideQuote(wide) = event {
        &wide.overflow
    } else {
        return None;
    };
    overflow.iter().find(|overflow| overflow.field == field).map(|overflow| &*overflow.texts)
}

/// Writes one column after the other.
struct Columns<'a, 'g, 'w, W: Write> {
    rows: &'a [Row<'a>],
    group: &'g mut SerializedRowGroupWriter<'w, W>,
}

impl<W: Write + Send> Columns<'_, '_, '_, W> {
    fn number<T: DataType>(&mut self, value: impl Fn(&Row<'_>) -> T::T) -> Result<()> {
        let values: Vec<T::T> = self.rows.iter().map(value).collect();
        self.write::<T>(&values, None, None)
    }

    fn optional(&mut self, value: impl Fn(&Row<'_>) -> Option<i64>) -> Result<()> {
        let found: Vec<Option<i64>> = self.rows.iter().map(value).collect();
        let levels: Vec<i16> = found.iter().map(|value| i16::from(value.is_some())).collect();
        let values: Vec<i64> = found.into_iter().flatten().collect();
        self.write::<Int64Type>(&values, Some(&levels), None)
    }

    fn text(&mut self, mut append: impl FnMut(&Row<'_>, &mut Vec<u8>)) -> Result<()> {
        let mut texts = Texts::default();
        for row in self.rows {
            append(row, &mut texts.bytes);
            texts.end();
        }
        self.write::<ByteArrayType>(&texts.values(), None, None)
    }

    fn code(&mut self, field: &str, code: impl Fn(&Row<'_>) -> Option<Code>) -> Result<()> {
        self.text(|row, out| match overflow(row.record.event, field) {
            Some(texts) => out.extend(texts.iter().flat_map(|text| text.bytes())),
            None => out.extend_from_slice(code(row).unwrap_or_default().as_str().as_bytes()),
        })
    }

    /// A list, empty where the message had none.
    fn conditions(&mut self, conditions: impl Fn(&Row<'_>) -> Option<Conditions>) -> Result<()> {
        let mut texts = Texts::default();
        let (mut defined, mut repeated) = (Vec::new(), Vec::new());
        for row in self.rows {
            let before = texts.ends.len();
            match overflow(row.record.event, "c") {
                Some(many) => many.iter().for_each(|text| texts.push(text)),
                None => conditions(row).unwrap_or_default().iter().for_each(|text| texts.push(text)),
            }
            let count = texts.ends.len() - before;
            defined.extend(std::iter::repeat_n(i16::from(count > 0), count.max(1)));
            repeated.extend((0..count.max(1)).map(|index| i16::from(index > 0)));
        }
        self.write::<ByteArrayType>(&texts.values(), Some(&defined), Some(&repeated))
    }

    fn write<T: DataType>(
        &mut self,
        values: &[T::T],
        defined: Option<&[i16]>,
        repeated: Option<&[i16]>,
    ) -> Result<()> {
        let Some(mut column) = self.group.next_column()? else {
            return Err(ParquetError::General("more columns than the schema has".to_owned()));
        };
        column.typed::<T>().write_batch(values, defined, repeated)?;
        column.close()
    }
}

/// Many texts in one buffer.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn values(self) -> Vec<ByteArray> {
        let bytes = Bytes::from(self.bytes);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| bytes.slice(start..*end).into()).collect()
    }
}
