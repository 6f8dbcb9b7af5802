"""Reads history from a venue with Alpaca's own Python SDK, its own paging included, and prints one line of JSON.

The line holds the rows by symbol as the SDK's raw data has them. The SDK's models, which validate every field, are
built from the same rows first: a row that they refuse ends the program with their error.
"""

import argparse
import json
from datetime import datetime, timezone

from alpaca.data.enums import DataFeed
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.models import BarSet, QuoteSet, TradeSet
from alpaca.data.requests import (
    CryptoTradesRequest,
    StockBarsRequest,
    StockQuotesRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the base URL of the data port")
    parser.add_argument("--what", required=True, choices=["trades", "quotes", "bars", "crypto-trades"])
    parser.add_argument("--symbols", required=True, help="comma list")
    parser.add_argument("--key", default="key")
    parser.add_argument("--secret", default="secret")
    return parser.parse_args()


def read(arguments):
    options = {"raw_data": True, "url_override": arguments.url}
    span = {
        "symbol_or_symbols": arguments.symbols.split(","),
        "start": datetime(2000, 1, 1, tzinfo=timezone.utc),
        "end": datetime(2100, 1, 1, tzinfo=timezone.utc),
    }
    if arguments.what == "crypto-trades":
        client = CryptoHistoricalDataClient(arguments.key, arguments.secret, **options)
        return client.get_crypto_trades(CryptoTradesRequest(**span)), TradeSet
    client = StockHistoricalDataClient(arguments.key, arguments.secret, **options)
    if arguments.what == "trades":
        return client.get_stock_trades(StockTradesRequest(feed=DataFeed.SIP, **span)), TradeSet
    if arguments.what == "quotes":
        return client.get_stock_quotes(StockQuotesRequest(feed=DataFeed.SIP, **span)), QuoteSet
    return client.get_stock_bars(StockBarsRequest(timeframe=TimeFrame.Minute, **span)), BarSet


rows, models = read(parse_arguments())
built = models(rows)
assert all(len(built[symbol]) == len(rows[symbol]) for symbol in rows)
print(json.dumps(rows))
