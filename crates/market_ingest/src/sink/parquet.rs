//! `parquet:DIR`: trades, quotes and bars in files of their own with typed columns, everything else as JSON in a column.
//!
//! Rows are kept as the chunks they came in, and written column by column when a row group is full or the file is
//! finished; so what is encoded at one time is one column of one row group.

mod columns;

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Arc;

use alpaca_feed::message::Kind;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::chunk::Chunk;
use super::files::{Format, Naming, PartFile};
use super::json::Encoder;
use columns::{Row, write_columns};

/// Rows of all kinds that make a row group due.
const ROWS_MAX: usize = 131_072;

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Trades,
    Quotes,
    Bars,
    Other,
}

/// The open files, one a table at most.
pub struct Parquet {
    encoder: Encoder,
    layouts: BTreeMap<Table, Layout>,
    /// Not written yet, each with its epoch.
    held: Vec<(u64, Arc<Chunk>)>,
    rows: usize,
    open: BTreeMap<Table, SerializedFileWriter<PartFile>>,
}

struct Layout {
    schema: TypePtr,
    properties: Arc<WriterProperties>,
}

impl Parquet {
    /// Writes records with the names and keys of this encoder.
    ///
    /// # Errors
    /// When the schemas of this build are wrong.
    pub fn new(encoder: Encoder) -> anyhow::Result<Self> {
        let mut layouts = BTreeMap::new();
        for table in Table::ALL {
            layouts.insert(table, table.layout()?);
        }
        Ok(Self { encoder, layouts, held: Vec::new(), rows: 0, open: BTreeMap::new() })
    }

    fn write_row_groups(&mut self, naming: &mut Naming) -> io::Result<()> {
        let held = mem::take(&mut self.held);
        self.rows = 0;
        let mut rows: BTreeMap<Table, Vec<Row<'_>>> = BTreeMap::new();
        for (epoch, chunk) in &held {
            for record in chunk.records() {
                let row = Row { record, epoch: *epoch };
                rows.entry(Table::of(record.event.kind())).or_default().push(row);
            }
        }
        for (table, rows) in rows {
            let mut file = match self.open.remove(&table) {
                Some(file) => file,
                None => {
                    let layout = &self.layouts[&table];
                    let part = naming.create(table.name())?;
                    SerializedFileWriter::new(
                        part,
                        Arc::clone(&layout.schema),
                        Arc::clone(&layout.properties),
                    )
                    .map_err(other)?
                }
            };
            let mut group = file.next_row_group().map_err(other)?;
            write_columns(table, &rows, &mut self.encoder, &mut group).map_err(other)?;
            group.close().map_err(other)?;
            self.open.insert(table, file);
        }
        Ok(())
    }
}

impl Format for Parquet {
    const EXTENSION: &'static str = "parquet";

    fn write(&mut self, naming: &mut Naming, epoch: u64, chunks: &[Arc<Chunk>]) -> io::Result<u64> {
        let mut bytes = 0;
        for chunk in chunks {
            bytes += chunk.bytes as u64;
            self.rows += chunk.len();
            self.held.push((epoch, Arc::clone(chunk)));
            if self.rows >= ROWS_MAX {
                self.write_row_groups(naming)?;
            }
        }
        Ok(bytes)
    }

    fn finish(&mut self, naming: &mut Naming) -> io::Result<()> {
        self.write_row_groups(naming)?;
        for (_, file) in mem::take(&mut self.open) {
            file.into_inner().map_err(other)?.complete()?;
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.held.clear();
        self.rows = 0;
        self.open.clear();
    }
}

impl Table {
    const ALL: [Self; 4] = [Self::Trades, Self::Quotes, Self::Bars, Self::Other];

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Trade => Self::Trades,
            Kind::Quote => Self::Quotes,
            Kind::Bar | Kind::UpdatedBar | Kind::DailyBar => Self::Bars,
            Kind::Correction
            | Kind::Cancel
            | Kind::Status
            | Kind::Luld
            | Kind::Imbalance
            | Kind::Orderbook
            | Kind::Pricing
            | Kind::News
            | Kind::Unknown => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trades => "trades",
            Self::Quotes => "quotes",
            Self::Bars => "bars",
            Self::Other => "other",
        }
    }

    /// The columns between those that all tables begin and end with.
    fn own_columns(self) -> &'static str {
        match self {
            Self::Trades => {
                "OPTIONAL INT64 i (INTEGER(64,false)); REQUIRED BINARY x (STRING); REQUIRED DOUBLE p; REQUIRED DOUBLE s;
                 REQUIRED GROUP c (LIST) { REPEATED GROUP list { REQUIRED BINARY element (STRING); } }
                 REQUIRED BINARY z (STRING); REQUIRED BINARY tks (STRING);"
            }
            Self::Quotes => {
                "REQUIRED BINARY bx (STRING); REQUIRED DOUBLE bp; REQUIRED DOUBLE bs;
                 REQUIRED BINARY ax (STRING); REQUIRED DOUBLE ap; REQUIRED DOUBLE as;
                 REQUIRED GROUP c (LIST) { REPEATED GROUP list { REQUIRED BINARY element (STRING); } }
                 REQUIRED BINARY z (STRING);"
            }
            Self::Bars => {
                "REQUIRED DOUBLE o; REQUIRED DOUBLE h; REQUIRED DOUBLE l; REQUIRED DOUBLE c; REQUIRED DOUBLE v;
                 REQUIRED DOUBLE vw; REQUIRED INT64 n (INTEGER(64,false));"
            }
            Self::Other => "REQUIRED BINARY json (STRING);",
        }
    }

    fn layout(self) -> Result<Layout, ParquetError> {
        let schema = format!(
            "message {} {{
             REQUIRED BINARY type (STRING); REQUIRED BINARY symbol (STRING);
             REQUIRED INT64 ts (TIMESTAMP(NANOS,true)); OPTIONAL INT64 received_ts (TIMESTAMP(NANOS,true));
             {}
             REQUIRED BINARY job (STRING); REQUIRED BINARY origin (STRING);
             REQUIRED INT64 epoch (INTEGER(64,false)); OPTIONAL INT64 seq (INTEGER(64,false));
             REQUIRED BINARY key (STRING); }}",
            self.name(),
            self.own_columns(),
        );
        Ok(Layout { schema: Arc::new(parse_message_type(&schema)?), properties: Arc::new(properties()?) })
    }
}

/// A dictionary where values repeat, prices and sizes among them, which costs less time than compressing eight bytes of
/// each and takes less room; small steps for times and numbers; statistics where somebody selects.
fn properties() -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by("market-ingest".to_owned());
    for column in
        ["type", "symbol", "x", "bx", "ax", "z", "tks", "job", "origin", "p", "s", "bp", "bs", "ap", "as"]
    {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), true);
    }
    let conditions = ["c", "list", "element"].map(str::to_owned).to_vec();
    builder = builder.set_column_dictionary_enabled(ColumnPath::new(conditions), true);
    for column in ["ts", "received_ts", "epoch", "seq"] {
        builder = builder.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    for column in ["ts", "symbol"] {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Chunk);
    }
    Ok(builder.build())
}

fn other(error: ParquetError) -> io::Error {
    io::Error::other(error)
}
