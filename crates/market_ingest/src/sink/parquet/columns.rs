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
    columns.runs(|row| letter(row.record.event))?;
    columns.text(|row, out| encoder.put_symbol(out, &row.record))?;
    columns.number::<Int64Type>(|row| row.record.event.ts())?;
    columns.optional(|row| received_ts(row.record.event))?;
    match table {
        Table::Trades => trades(&mut columns)?,
        Table::Quotes => quotes(&mut columns)?,
        Table::Bars => bars(&mut columns)?,
        Table::Other => columns.text(|row, out| encoder.write(out, &row.record, row.epoch))?,
    }
    columns.runs(|row| encoder.job(&row.record))?;
    columns.runs(|row| row.record.origin.as_str())?;
    columns.number::<Int64Type>(|row| row.epoch.cast_signed())?;
    columns.optional(|row| row.record.seq.map(u64::cast_signed))?;
    columns.text(|row, out| encoder.put_key(out, &row.record))
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

impl<'a, W: Write + Send> Columns<'a, '_, '_, W> {
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

    /// A text that is the same in many rows that follow each other.
    fn runs<'t>(&mut self, text: impl Fn(&'a Row<'a>) -> &'t str) -> Result<()> {
        const PIECE: usize = 1024;
        let Some(mut column) = self.group.next_column()? else { return Err(too_many()) };
        let writer = column.typed::<ByteArrayType>();
        let mut rows = self.rows;
        while let Some(first) = rows.first() {
            let word = text(first);
            let count = rows.iter().take_while(|row| text(row) == word).count();
            let same = vec![ByteArray::from(word); count.min(PIECE)];
            let (run, others) = rows.split_at(count);
            for piece in run.chunks(PIECE) {
                writer.write_batch(&same[..piece.len()], None, None)?;
            }
            rows = others;
        }
        column.close()
    }

    fn code(&mut self, field: &str, code: impl Fn(&Row<'_>) -> Option<Code>) -> Result<()> {
        let text = |row: &Row<'_>| match overflow(row.record.event, field) {
            Some(texts) => texts.concat().into_bytes().into(),
            None => short(code(row).unwrap_or_default()),
        };
        let values: Vec<ByteArray> = self.rows.iter().map(text).collect();
        self.write::<ByteArrayType>(&values, None, None)
    }

    /// A list, empty where the message had none.
    fn conditions(&mut self, conditions: impl Fn(&Row<'_>) -> Option<Conditions>) -> Result<()> {
        let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.rows {
            let before = values.len();
            match overflow(row.record.event, "c") {
                Some(many) => values.extend(many.iter().map(|text| ByteArray::from(text.as_str()))),
                None => {
                    let all = conditions(row).unwrap_or_default();
                    values.extend(all.as_str().bytes().map(letter_text));
                }
            }
            let count = values.len() - before;
            defined.extend(std::iter::repeat_n(i16::from(count > 0), count.max(1)));
            repeated.extend((0..count.max(1)).map(|index| i16::from(index > 0)));
        }
        self.write::<ByteArrayType>(&values, Some(&defined), Some(&repeated))
    }

    fn write<T: DataType>(
        &mut self,
        values: &[T::T],
        defined: Option<&[i16]>,
        repeated: Option<&[i16]>,
    ) -> Result<()> {
        let Some(mut column) = self.group.next_column()? else {
            return Err(too_many());
        };
        column.typed::<T>().write_batch(values, defined, repeated)?;
        column.close()
    }
}

fn too_many() -> ParquetError {
    ParquetError::General("more columns than the schema has".to_owned())
}

fn short(code: Code) -> ByteArray {
    match code.bits() {
        0 => Bytes::new().into(),
        letter @ 1..128 => letter_text(letter as u8),
        _ => code.as_str().into(),
    }
}

/// A letter of ASCII as a text that is nobody's, so that nobody counts who has it.
fn letter_text(letter: u8) -> ByteArray {
    static ASCII: [u8; 128] = {
        let mut all = [0; 128];
        let mut byte = 0;
        while byte < 128 {
            all[byte] = byte as u8;
            byte += 1;
        }
        all
    };
    let at = usize::from(letter) % ASCII.len();
    Bytes::from_static(&ASCII[at..=at]).into()
}

/// Many texts in one buffer.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn values(self) -> Vec<ByteArray> {
        let bytes = Bytes::from(self.bytes);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| bytes.slice(start..*end).into()).collect()
    }
}
