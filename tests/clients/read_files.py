"""Reads what a full-rate sink left in a directory, by two independent readers, and prints every record.

    read_files.py ndjson|parquet DIR

One JSON object a line: the columns that a record has (no nulls, no empty texts, no empty lists), times as integers of
nanoseconds. The last line is {"readers": {NAME: ROWS}, "files": N}.
"""

import json
import pathlib
import sys

import duckdb
import pyarrow
import pyarrow.json
import pyarrow.parquet

TIMES = ("ts", "received_ts")


def nanoseconds(text):
    """RFC 3339 with nine digits, as an integer."""
    whole, fraction = text.removesuffix("Z").split(".")
    seconds = duckdb.execute("SELECT epoch(?::TIMESTAMP)::BIGINT", [whole]).fetchone()[0]
    return seconds * 10**9 + int(fraction)


def show(row):
    print(json.dumps({name: value for name, value in row.items() if value not in (None, "", [])}))


def read_ndjson(directory):
    files = sorted(directory.glob("*.ndjson.zst"))
    rows = 0
    seconds = {}
    for file in files:
        with pyarrow.input_stream(file, compression="zstd") as stream:
            for line in stream.read().splitlines():
                row = json.loads(line)
                for name in TIMES:
                    if row[name] is not None:
                        whole, fraction = row[name].removesuffix("Z").split(".")
                        if whole not in seconds:
                            seconds[whole] = nanoseconds(f"{whole}.000000000Z")
                        row[name] = seconds[whole] + int(fraction)
                show(row)
                rows += 1
    tables = [pyarrow.json.read_json(pyarrow.input_stream(file, compression="zstd")) for file in files]
    query = "SELECT count(key) FROM read_json(?, format = 'newline_delimited')"
    counted = sum(duckdb.execute(query, [str(file)]).fetchone()[0] for file in files)
    return files, {"lines": rows, "pyarrow": sum(len(table) for table in tables), "duckdb": counted}


def read_parquet(directory):
    files = sorted(directory.glob("*.parquet"))
    rows = counted = 0
    for file in files:
        table = pyarrow.parquet.read_table(file)
        for name in TIMES:
            column = table.schema.field(name)
            assert column.type == pyarrow.timestamp("ns", tz="UTC"), column
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast("int64"))
        for name in ("i", "n", "epoch", "seq"):
            if name in table.schema.names:
                assert table.schema.field(name).type == pyarrow.uint64(), name
        for row in table.to_pylist():
            if "json" in row:
                row = {**row, **{name: value for name, value in json.loads(row.pop("json")).items() if name not in row}}
            show(row)
            rows += 1
        counted += duckdb.execute("SELECT count(key) FROM read_parquet(?)", [str(file)]).fetchone()[0]
    return files, {"pyarrow": rows, "duckdb": counted}


kind, directory = sys.argv[1], pathlib.Path(sys.argv[2])
files, readers = {"ndjson": read_ndjson, "parquet": read_parquet}[kind](directory)
print(json.dumps({"readers": readers, "files": len(files)}))
