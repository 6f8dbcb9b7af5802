// Streams from a venue with Alpaca's own JavaScript SDK, counts what comes, and prints one line of JSON.
//
// The line holds the counts by symbol and type letter (news under its symbols joined by commas) and the last quote
// of each symbol. Exit code 0 when exactly the expected number of elements came, 1 otherwise.

import { parseArgs } from "node:util";
import { streaming } from "@alpacahq/alpaca-trade-api";

// How long to listen for elements beyond the expected ones.
const SURPLUS_MS = 500;

const { values: options } = parseArgs({
  options: {
    url: { type: "string" },
    expect: { type: "string" },
    key: { type: "string", default: "key" },
    secret: { type: "string", default: "secret" },
    symbols: { type: "string", default: "*" },
    "limit-s": { type: "string", default: "60" },
  },
});

const expected = Number(options.expect);
const symbols = options.symbols.split(",");
const counts = {};
const lastQuotes = {};
const errors = [];
let total = 0;

function take(letter, symbol) {
  total += 1;
  counts[symbol] ??= {};
  counts[symbol][letter] = (counts[symbol][letter] ?? 0) + 1;
  if (total === expected) setTimeout(finish, SURPLUS_MS);
}

function takeQuote(quote) {
  const { symbol, bidPrice, bidSize, askPrice, askSize, timestampRaw } = quote;
  lastQuotes[symbol] = { bp: bidPrice, bs: bidSize, ap: askPrice, as: askSize, t: timestampRaw };
  take("q", symbol);
}

function finish() {
  process.stdout.write(JSON.stringify({ total, counts, last_quotes: lastQuotes, errors }) + "\n", () => {
    stream.disconnect();
    process.exit(total === expected ? 0 : 1);
  });
}

function openStream() {
  const { url } = options;
  const common = { credentials: { keyId: options.key, secret: options.secret }, url };
  if (url.includes("/crypto/")) return new streaming.CryptoDataStream(common);
  if (url.endsWith("/news")) return new streaming.NewsStream(common);
  if (url.endsWith("/opra") || url.endsWith("/indicative")) return new streaming.OptionDataStream(common);
  return new streaming.StockDataStream(common);
}

function subscribe(stream) {
  const { url } = options;
  if (url.endsWith("/news")) {
    stream.onNews((n) => take("n", n.symbols.join(",")));
    stream.subscribeForNews(symbols);
    return;
  }
  stream.onTrade((t) => take("t", t.symbol));
  stream.onQuote(takeQuote);
  stream.subscribeForTrades(symbols);
  stream.subscribeForQuotes(symbols);
  if (url.endsWith("/opra") || url.endsWith("/indicative")) return;
  stream.onBar((b) => take("b", b.symbol));
  stream.onUpdatedBar((b) => take("u", b.symbol));
  stream.onDailyBar((b) => take("d", b.symbol));
  stream.subscribeForBars(symbols);
  stream.subscribeForUpdatedBars(symbols);
  stream.subscribeForDailyBars(symbols);
  if (url.includes("/crypto/")) {
    stream.onOrderbook((o) => take("o", o.symbol));
    stream.subscribeForOrderbooks(symbols);
    return;
  }
  stream.onStatus((s) => take("s", s.symbol));
  stream.onLuld((l) => take("l", l.symbol));
  stream.onImbalance((i) => take("i", i.symbol));
  stream.onCorrection((c) => take("c", c.symbol));
  stream.onCancelError((x) => take("x", x.symbol));
  stream.subscribeForStatuses(symbols);
  stream.subscribeForLulds(symbols);
  stream.subscribeForImbalances(symbols);
}

const stream = openStream();
stream.onError((error) => errors.push(String(error)));
subscribe(stream);
stream.connect();
setTimeout(finish, Number(options["limit-s"]) * 1000);
