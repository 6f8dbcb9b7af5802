//! `alpaca-sim`: the simulated venue as a program.
//!
//! The first line on stdout is one JSON object with the URLs; after that it is silent until SIGTERM or SIGINT.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alpaca_sim::{Account, Config, Fault, Feed, Pace, Plan, Profile, Synthetic, Timings, Venue};
use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

const FAULTS: &str = "\
FAULTS are written NAME or NAME:KEY=VALUE,… and posted to the control port as {\"fault\": NAME, KEY: VALUE, …}.
Each takes count=N (strikes before it is spent), for_s=S (ends by itself) and path=/v2/iex (touches this path only).
Those marked (once) strike once unless count says otherwise, the others until DELETE /fault.

  stall:at=STAGE                 stop for good at accept, upgrade, greeting, auth or ack
  refuse_upgrade:status=N        HTTP 429, 404, 503 … in place of 101
  refuse_auth:code=N             402, 406, 409, 500 … whatever the credentials
  refuse_subscribe:code=N        405, 410, 500 …; the state stays as it was
  error:code=N,after=M           (once) an error in mid-session, after M elements
  slow_client:after=M            (once) 407, then the cut
  cut:after=M,rst=BOOL           (once) the cut without a word
  cut_mid_frame:after=M          (once) half a data frame, then RST
  half_open:after=M,hold_slot=BOOL  (once) nothing is read, written or closed any more
  mute:symbol=S,channel=C        no data, though pings go on; of all, of a symbol, of a channel
  ignore_pings                   the client's pings are not answered
  trickle:bytes_per_s=N          bytes leave in driblets
  out_of_order:every=N,back_ms=230      timestamps step back
  duplicate_quotes:every=N       every N-th quote comes twice
  late_prints:every=N,back_ms=30000     trades reported late, condition Z
  unknown_type:every=N           extra elements of a type that does not exist
  unknown_fields:every=N         fields that do not exist
  corrupt_element:every=N        extra elements with values of the wrong type, in a well-formed frame
  corrupt_frame:every=N          extra frames that end within an element
  big_ids:every=N                trade ids beyond 2^53 and 2^63
  huge_news:bytes=5000000        (once) one huge news element, sent to whoever is authenticated
  rename:from=OLD,to=NEW         a symbol trades under another name

Faults of the data port, whose path is like /v2/stocks/trades:

  data_error:status=N            HTTP 429, 500, 503 … in place of a page
  data_delay:ms=N                the answer comes later
  data_cut                       (once) a page ends half way, and the connection with it
  data_stall                     the call is taken and never answered

CONTROL PORT: GET /state, GET /log?since=SEQ, POST /fault, DELETE /fault, POST /cut[?rst=true]

DATA PORT (--data): the REST twin of the streams, over the same elements. GET with symbols, start, end, limit,
page_token, feed, sort, timeframe (1Min), adjustment, asof, currency:

  /v2/stocks/{trades|quotes|bars}           /v2/stocks/SYMBOL/{trades|quotes|bars}
  /v1beta3/crypto/{us|us-1|eu-1|…}/{trades|quotes|bars}
  /v1beta1/options/{trades|bars}            /v1beta1/news
  newest of each symbol: /v2/stocks/{trades|quotes|bars}/latest, /v1beta1/options/{trades|quotes}/latest,
  /v1beta3/crypto/{us|…}/latest/{trades|quotes|bars}

By the clock of the tape, rows are there once they were due; without a clock (--speed max, --messages), all at once. A
market without end keeps its last 256 MiB. Calls are in the log of the control port as data_request.";

/// A simulated Alpaca market-data venue on loopback, in plain ws://.
#[derive(Debug, Parser)]
#[command(version, after_long_help = FAULTS)]
struct Arguments {
    /// Play this tape (.ndjson, .gz or .zst); several are merged by time.
    #[arg(long, value_name = "FILE")]
    tape: Vec<PathBuf>,
    /// How many times as fast as the tape's own clock; `max` lets each client take it as fast as it can.
    #[arg(long, value_name = "X|max", default_value = "1", requires = "tape", value_parser = parse_pace)]
    speed: Pace,
    /// Begin the tape again at its end.
    #[arg(long = "loop", requires = "tape")]
    looped: bool,
    /// Play a made-up market; the default where no tape is given.
    #[arg(long, conflicts_with = "tape")]
    synthetic: bool,
    /// Seed of the made-up market.
    #[arg(long, default_value_t = 1, conflicts_with = "tape")]
    seed: u64,
    /// Number of stocks in the made-up market.
    #[arg(long, default_value_t = 500, conflicts_with = "tape")]
    symbols: usize,
    /// Elements a second of the made-up market.
    #[arg(long, default_value_t = 1_000.0, conflicts_with = "tape")]
    rate: f64,
    /// Make exactly this many elements, `rate` a second by their timestamps, sent as fast as taken.
    #[arg(long, value_name = "N", conflicts_with = "tape")]
    messages: Option<usize>,
    /// A fault in force from the start; see below.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,
    /// Where clients connect; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the HTTP control port listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Where the HTTP data port listens, the REST twin of the streams; without this there is none.
    #[arg(long, value_name = "ADDR")]
    data: Option<SocketAddr>,
    /// Seconds of the venue's clock that the data port is behind the streams.
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse_seconds)]
    data_lag_s: Duration,
    /// Calls of the data port a minute, else 429; 10000, with the basic plan 200.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    data_calls_per_min: Option<u32>,
    /// Which reading of the protocol to play where documentation and observation differ.
    #[arg(long, value_enum, default_value_t = ProfileName::Observed)]
    profile: ProfileName,
    /// The only accepted key id; without it any credentials are accepted.
    #[arg(long, requires = "secret")]
    key: Option<String>,
    /// The only accepted secret.
    #[arg(long, requires = "key")]
    secret: Option<String>,
    /// What the account may do: everything, or what the free plan may.
    #[arg(long, value_enum, default_value_t = PlanName::Unlimited)]
    plan: PlanName,
    /// Most symbols over trades and quotes, else 405.
    #[arg(long, value_name = "N")]
    symbol_limit: Option<usize>,
    /// Connections per account and path, else 406.
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Seconds until a client without auth is dropped.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    auth_limit_s: Duration,
    /// Seconds between the venue's pings.
    #[arg(long, value_name = "S", default_value = "54", value_parser = parse_seconds)]
    ping_interval_s: Duration,
    /// Seconds that a pong may take.
    #[arg(long, value_name = "S", default_value = "6", value_parser = parse_seconds)]
    pong_limit_s: Duration,
    /// Seconds that a client refused with 406 is kept.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    refused_hold_s: Duration,
    /// Unsent bytes at which a client gets 407 and is cut.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    send_buffer_bytes: usize,
    /// Most elements in a frame.
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_per_frame: usize,
    /// Exactly this many elements in every frame.
    #[arg(long, value_name = "N")]
    per_frame: Option<usize>,
    /// Leave the field `r` out of MessagePack trades and quotes.
    #[arg(long)]
    no_received_at: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileName {
    Observed,
    Documented,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlanName {
    Unlimited,
    Basic,
}

fn parse_pace(text: &str) -> anyhow::Result<Pace> {
    if text == "max" {
        return Ok(Pace::AsTaken);
    }
    let speed: f64 = text.parse().context("neither a number nor `max`")?;
    ensure!(speed.is_finite() && speed > 0.0, "must be above 0");
    Ok(Pace::Speed(speed))
}

fn parse_seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

impl From<Arguments> for Config {
    fn from(arguments: Arguments) -> Config {
        let feed = if arguments.tape.is_empty() {
            Feed::Synthetic(Synthetic {
                seed: arguments.seed,
                symbols: arguments.symbols,
                rate_per_s: arguments.rate,
                messages: arguments.messages,
            })
        } else {
            Feed::Tape { paths: arguments.tape, pace: arguments.speed, looped: arguments.looped }
        };
        let plan = match arguments.plan {
            PlanName::Unlimited => Plan::default(),
            PlanName::Basic => Plan::basic(),
        };
        Config {
            listen: arguments.listen,
            control: Some(arguments.control),
            data: arguments.data,
            data_lag: arguments.data_lag_s,
            feed,
            profile: match arguments.profile {
                ProfileName::Observed => Profile::Observed,
                ProfileName::Documented => Profile::Documented,
            },
            account: arguments.key.zip(arguments.secret).map(|(key, secret)| Account { key, secret }),
            plan: Plan {
                symbol_limit: arguments.symbol_limit.or(plan.symbol_limit),
                connections_per_endpoint: arguments.connections,
                data_calls_per_min: arguments.data_calls_per_min.unwrap_or(plan.data_calls_per_min),
                ..plan
            },
            timings: Timings {
                auth_limit: arguments.auth_limit_s,
                ping_interval: arguments.ping_interval_s,
                pong_limit: arguments.pong_limit_s,
                refused_hold: arguments.refused_hold_s,
            },
            send_buffer_bytes: arguments.send_buffer_bytes,
            max_per_frame: arguments.max_per_frame,
            per_frame: arguments.per_frame,
            received_at: !arguments.no_received_at,
            faults: arguments.fault,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let config = Config::from(Arguments::parse());
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(run(config));
    // A tape that is still being read must not hold the exit.
    runtime.shutdown_background();
    result
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let venue = tokio::select! {
        venue = Venue::start(config) => venue?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let listening = format!("ws://{}", venue.addr());
    let control = venue.control_addr().map(|addr| format!("http://{addr}"));
    let line = serde_json::json!({"listening": listening, "control": control, "data": venue.data_url()});
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    venue.stop().await;
    Ok(())
}
