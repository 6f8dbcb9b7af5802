"""Streams from a venue with Alpaca's own Python SDK, counts what comes, and prints one line of JSON.

The line holds the counts by symbol and type letter (news under its symbols joined by commas) and the last quote
of each symbol. Exit code 0 when exactly the expected number of elements came, 1 otherwise.
"""

import argparse
import asyncio
import json
import os
import sys
from collections import defaultdict
from datetime import datetime, timedelta, timezone

from alpaca.data.live import (
    CryptoDataStream,
    NewsDataStream,
    OptionDataStream,
    StockDataStream,
)

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# How long to listen for elements beyond the expected ones.
SURPLUS_S = 0.5


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the stream, path included")
    parser.add_argument("--expect", type=int, required=True, help="number of elements")
    parser.add_argument("--key", default="key")
    parser.add_argument("--secret", default="secret")
    parser.add_argument("--symbols", default="*", help="comma list, or *")
    parser.add_argument("--models", action="store_true", help="use the SDK's models, which validate every field")
    parser.add_argument("--limit-s", type=float, default=60.0)
    return parser.parse_args()


class Tally:
    """What has come so far."""

    def __init__(self):
        self.total = 0
        self.counts = defaultdict(lambda: defaultdict(int))
        self.last_quotes = {}

    def handler(self, letter):
        async def take(element):
            raw = isinstance(element, dict)
            if letter == "n":
                symbol = ",".join(element["symbols"] if raw else element.symbols)
            else:
                symbol = element["S"] if raw else element.symbol
            self.total += 1
            self.counts[symbol][letter] += 1
            if letter == "q":
                self.last_quotes[symbol] = raw_quote(element) if raw else model_quote(element)

        return take


def raw_quote(quote):
    return {
        "bp": quote["bp"],
        "bs": quote["bs"],
        "ap": quote["ap"],
        "as": quote["as"],
        "t_ns": quote["t"].to_unix_nano(),
    }


def model_quote(quote):
    # The models keep microseconds.
    micros = (quote.timestamp - EPOCH) // timedelta(microseconds=1)
    return {
        "bp": quote.bid_price,
        "bs": quote.bid_size,
        "ap": quote.ask_price,
        "as": quote.ask_size,
        "t_ns": micros * 1000,
    }


def open_stream(arguments, tally):
    """The SDK's stream for the path, with a handler on every channel that the SDK knows there."""
    symbols = arguments.symbols.split(",")
    options = {"raw_data": not arguments.models, "url_override": arguments.url}
    if "/crypto/" in arguments.url:
        stream = CryptoDataStream(arguments.key, arguments.secret, **options)
        stream.subscribe_orderbooks(tally.handler("o"), *symbols)
    elif arguments.url.endswith("/news"):
        stream = NewsDataStream(arguments.key, arguments.secret, **options)
        stream.subscribe_news(tally.handler("n"), *symbols)
        return stream
    elif arguments.url.endswith(("/opra", "/indicative")):
        stream = OptionDataStream(arguments.key, arguments.secret, **options)
        stream.subscribe_trades(tally.handler("t"), *symbols)
        stream.subscribe_quotes(tally.handler("q"), *symbols)
        return stream
    else:
        stream = StockDataStream(arguments.key, arguments.secret, **options)
        stream.subscribe_trading_statuses(tally.handler("s"), *symbols)
        stream.register_trade_corrections(tally.handler("c"))
        stream.register_trade_cancels(tally.handler("x"))
    stream.subscribe_trades(tally.handler("t"), *symbols)
    stream.subscribe_quotes(tally.handler("q"), *symbols)
    stream.subscribe_bars(tally.handler("b"), *symbols)
    stream.subscribe_updated_bars(tally.handler("u"), *symbols)
    stream.subscribe_daily_bars(tally.handler("d"), *symbols)
    return stream


async def watch(arguments, tally):
    """Waits until all is there, or the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + arguments.limit_s
    while tally.total < arguments.expect and loop.time() < deadline:
        await asyncio.sleep(0.02)
    await asyncio.sleep(SURPLUS_S)


async def main():
    arguments = parse_arguments()
    tally = Tally()
    stream = open_stream(arguments, tally)
    running = asyncio.create_task(stream._run_forever())
    await watch(arguments, tally)
    running.cancel()
    await stream.close()
    print(json.dumps({"total": tally.total, "counts": tally.counts, "last_quotes": tally.last_quotes}))
    sys.stdout.flush()
    # The SDK's own stop waits for its next receive to time out.
    os._exit(0 if tally.total == arguments.expect else 1)


asyncio.run(main())
