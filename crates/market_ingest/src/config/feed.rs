//! Jobs: which feeds, with which symbols and channels, at which address, under which credentials.
//!
//! Paths and channels of each feed are those of Alpaca's stream documentation; `boats` and
//! `overnight` are v1beta1, options speak MessagePack only.

use alpaca_feed::calendar::Market;
use alpaca_feed::message::Codec;
use alpaca_feed::subscription::{Channel, Subscriptions};
use ingest_switch::JobPlan;
use secrecy::SecretString;

use super::raw::Raw;
use super::{Problems, listing};

/// One feed connection.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// The feed's word in `ALPACA_DATA_FEED`, which is the job's name everywhere.
    pub name: String,
    /// Full websocket URL.
    pub url: String,
    /// Encoding of both directions.
    pub codec: Codec,
    /// What to subscribe to.
    pub subscriptions: Subscriptions,
    /// Whose hours it keeps.
    pub market: Market,
    /// Who we are.
    pub credentials: Credentials,
    /// Where what was missed can be had; or why it cannot.
    pub history: Result<History, &'static str>,
}

/// Where a feed's historical data are, by Alpaca's REST reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    base: String,
    path: &'static str,
    channels: &'static [Channel],
    /// What to ask for under the name `feed`; none where there is no choice.
    pub feed: Option<&'static str>,
    class: Class,
    /// The feed's own name.
    stream: &'static str,
}

impl History {
    /// Whether a channel's messages can be had.
    #[must_use]
    pub fn keeps(&self, channel: Channel) -> bool {
        self.channels.contains(&channel)
    }

    /// The address of a channel that it keeps.
    #[must_use]
    pub fn url(&self, channel: Channel) -> String {
        let Self { base, path, .. } = self;
        if channel == Channel::News { format!("{base}{path}") } else { format!("{base}{path}/{channel}") }
    }

    /// The address of a channel's newest messages, and what to ask for under the name `feed`; none where that says
    /// nothing about the stream, which has none or is late.
    #[must_use]
    pub fn latest(&self, channel: Channel) -> Option<(String, Option<&'static str>)> {
        let Self { base, path, stream, .. } = self;
        match self.class {
            Class::News => None,
            _ if *stream == "delayed_sip" => None,
            Class::Crypto => Some((format!("{base}{path}/latest/{channel}"), None)),
            Class::Stocks | Class::Options => Some((format!("{base}{path}/{channel}/latest"), Some(stream))),
        }
    }
}

impl JobConfig {
    /// What the job ingests if nothing is held, as the switch wants it.
    #[must_use]
    pub fn plan(&self) -> JobPlan {
        let pairs =
            self.subscriptions.iter().map(|(channel, symbol)| (channel.to_string(), symbol.to_owned()));
        JobPlan { name: self.name.clone(), pairs: pairs.collect() }
    }
}

/// The key pair sent to the venue.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `APCA_API_KEY_ID`.
    pub key: SecretString,
    /// `APCA_API_SECRET_KEY`.
    pub secret: SecretString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Stocks,
    Crypto,
    Options,
    News,
}

impl Feed {
    fn market(&self) -> Market {
        match self.name {
            // By night, and on some nights only.
            "boats" | "overnight" => Market::Never,
            "test" => Market::Always,
            _ => self.class.market(),
        }
    }
}

struct Feed {
    name: &'static str,
    path: &'static str,
    class: Class,
    /// The stream's name among the historical ones; none where it has no history.
    history: Option<&'static str>,
}

const FEEDS: &[Feed] = &[
    Feed { name: "iex", path: "/v2/iex", class: Class::Stocks, history: Some("iex") },
    Feed { name: "sip", path: "/v2/sip", class: Class::Stocks, history: Some("sip") },
    Feed { name: "delayed_sip", path: "/v2/delayed_sip", class: Class::Stocks, history: Some("sip") },
    Feed { name: "boats", path: "/v1beta1/boats", class: Class::Stocks, history: Some("boats") },
    Feed { name: "overnight", path: "/v1beta1/overnight", class: Class::Stocks, history: None },
    Feed { name: "test", path: "/v2/test", class: Class::Stocks, history: None },
    Feed { name: "crypto-us", path: "/v1beta3/crypto/us", class: Class::Crypto, history: Some("us") },
    Feed { name: "crypto-us-1", path: "/v1beta3/crypto/us-1", class: Class::Crypto, history: Some("us-1") },
    Feed { name: "crypto-eu-1", path: "/v1beta3/crypto/eu-1", class: Class::Crypto, history: Some("eu-1") },
    Feed { name: "news", path: "/v1beta1/news", class: Class::News, history: Some("") },
    Feed { name: "indicative", path: "/v1beta1/indicative", class: Class::Options, history: Some("") },
    Feed { name: "opra", path: "/v1beta1/opra", class: Class::Options, history: Some("") },
];

impl Class {
    /// Channels that a client may ask for; `corrections` and `cancelErrors` come with trades.
    fn channels(self) -> &'static [Channel] {
        use Channel::{
            Bars, DailyBars, Imbalances, Lulds, News, Orderbooks, Quotes, Statuses, Trades, UpdatedBars,
        };
        match self {
            Self::Stocks => &[Trades, Quotes, Bars, DailyBars, UpdatedBars, Statuses, Lulds, Imbalances],
            Self::Crypto => &[Trades, Quotes, Bars, DailyBars, UpdatedBars, Orderbooks],
            Self::Options => &[Trades, Quotes],
            Self::News => &[News],
        }
    }

    /// Channels of which Alpaca keeps a history: no statuses, bands, imbalances or books, no revised bars, no days as
    /// they went, and no quotes of options.
    fn kept_channels(self) -> &'static [Channel] {
        use Channel::{Bars, News, Quotes, Trades};
        match self {
            Self::Stocks | Self::Crypto => &[Trades, Quotes, Bars],
            Self::Options => &[Trades],
            Self::News => &[News],
        }
    }

    fn market(self) -> Market {
        match self {
            Self::Stocks => Market::UsStocks,
            Self::Crypto => Market::Always,
            Self::Options => Market::UsOptions,
            Self::News => Market::Never,
        }
    }

    fn trades_pair(self, symbol: &str) -> bool {
        match self {
            Self::Crypto => symbol.contains('/'),
            Self::Stocks | Self::Options => !symbol.contains('/'),
            Self::News => true,
        }
    }
}

/// Channels on which the feed `name` can carry `symbol`; none if there is no such feed.
#[must_use]
pub fn feed_channels(name: &str, symbol: &str) -> Option<Vec<&'static str>> {
    let class = FEEDS.iter().find(|feed| feed.name.eq_ignore_ascii_case(name))?.class;
    let channels = if symbol == "*" || class.trades_pair(symbol) { class.channels() } else { &[] };
    Some(channels.iter().map(|channel| channel.as_str()).collect())
}

impl Feed {
    fn history(&self, base: &Result<String, &'static str>) -> Result<History, &'static str> {
        let base = base.as_ref().map_err(|why| *why)?.clone();
        let name = self.history.ok_or("Alpaca keeps no history of this feed")?;
        let (path, feed) = match self.class {
            Class::Stocks => ("/v2/stocks", Some(name)),
            Class::Crypto => (self.path, None),
            Class::Options => ("/v1beta1/options", None),
            Class::News => ("/v1beta1/news", None),
        };
        Ok(History {
            base,
            path,
            channels: self.class.kept_channels(),
            feed,
            class: self.class,
            stream: self.name,
        })
    }
}

/// Builds every job that the environment asks for.
pub(super) fn jobs(raw: &Raw, problems: &mut Problems) -> Option<Vec<JobConfig>> {
    let feeds = feeds(raw, problems);
    let symbols = symbols(raw);
    let channels = channels(raw, problems);
    let codec = codec(raw, problems);
    let base = base_url(raw, problems);
    let data = data_url(raw, base.as_ref(), problems);
    let credentials = credentials(raw, base.as_ref(), problems);
    let (feeds, channels, codec, base, credentials) = (feeds?, channels?, codec?, base?, credentials?);
    let data = data?;

    let mut jobs = Vec::new();
    for feed in &feeds {
        if feed.class == Class::Options && codec == Codec::Json {
            problems.add("ALPACA_CODEC", "json", &format!("msgpack for the feed {}", feed.name));
            continue;
        }
        let subscriptions = subscriptions(feed, &symbols, &channels, problems);
        jobs.push(JobConfig {
            name: feed.name.to_owned(),
            url: format!("{}{}", base.url, feed.path),
            codec,
            subscriptions,
            market: feed.market(),
            credentials: credentials.clone(),
            history: feed.history(&data),
        });
    }
    // The default suits every feed; only a channel that was asked for must exist.
    let asked = if raw.alpaca_channels.is_some() { &channels[..] } else { &[] };
    for channel in asked {
        if !feeds.iter().any(|f| f.class.channels().contains(channel)) {
            problems.add(
                "ALPACA_CHANNELS",
                channel.as_str(),
                &format!("channels of the chosen feeds: {}", words(accepted_channels(&feeds))),
            );
        }
    }
    Some(jobs)
}

fn feeds(raw: &Raw, problems: &mut Problems) -> Option<Vec<&'static Feed>> {
    let text = raw.alpaca_data_feed.as_deref().unwrap_or("iex");
    let mut feeds: Vec<&Feed> = Vec::new();
    let mut good = true;
    for word in listing::words(text) {
        match FEEDS.iter().find(|f| f.name.eq_ignore_ascii_case(word)) {
            Some(feed) if feeds.iter().any(|f| f.name == feed.name) => {}
            Some(feed) => feeds.push(feed),
            None => {
                problems.add("ALPACA_DATA_FEED", word, &words(FEEDS.iter().map(|f| f.name)));
                good = false;
            }
        }
    }
    if good && feeds.is_empty() {
        problems.add("ALPACA_DATA_FEED", text, &words(FEEDS.iter().map(|f| f.name)));
        good = false;
    }
    good.then_some(feeds)
}

fn symbols(raw: &Raw) -> Vec<String> {
    let named = |text: &Option<String>| -> Vec<String> {
        listing::words(text.as_deref().unwrap_or_default()).map(str::to_uppercase).collect()
    };
    [named(&raw.monitored_symbols), named(&raw.alpaca_symbols)]
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_else(|| vec!["SPY".to_owned()])
}

fn channels(raw: &Raw, problems: &mut Problems) -> Option<Vec<Channel>> {
    let text = raw.alpaca_channels.as_deref().unwrap_or("trades,quotes,bars");
    let mut channels = Vec::new();
    let mut good = true;
    for word in listing::words(text) {
        match word.parse::<Channel>() {
            Ok(channel) if channels.contains(&channel) => {}
            Ok(channel) if askable().any(|c| c == channel) => channels.push(channel),
            _ => {
                problems.add("ALPACA_CHANNELS", word, &words(askable().map(Channel::as_str)));
                good = false;
            }
        }
    }
    if good && channels.is_empty() {
        problems.add("ALPACA_CHANNELS", text, &words(askable().map(Channel::as_str)));
        good = false;
    }
    good.then_some(channels)
}

/// Every channel that some feed offers to clients.
fn askable() -> impl Iterator<Item = Channel> {
    Channel::ALL.into_iter().filter(|channel| {
        [Class::Stocks, Class::Crypto, Class::News].iter().any(|c| c.channels().contains(channel))
    })
}

fn accepted_channels<'a>(feeds: &'a [&Feed]) -> impl Iterator<Item = &'static str> + 'a {
    askable().filter(|c| feeds.iter().any(|f| f.class.channels().contains(c))).map(Channel::as_str)
}

fn subscriptions(
    feed: &Feed,
    symbols: &[String],
    channels: &[Channel],
    problems: &mut Problems,
) -> Subscriptions {
    let chosen: Vec<Channel> = match feed.class {
        // News has one channel, so there is nothing to choose.
        Class::News => vec![Channel::News],
        Class::Stocks | Class::Crypto | Class::Options => {
            feed.class.channels().iter().copied().filter(|c| channels.contains(c)).collect()
        }
    };
    let mut subscriptions = Subscriptions::default();
    for symbol in symbols.iter().filter(|s| *s == "*" || feed.class.trades_pair(s)) {
        for channel in &chosen {
            if feed.class == Class::Options && *channel == Channel::Quotes && symbol == "*" {
                problems.add("MONITORED_SYMBOLS", "*", "named contracts: option quotes refuse *");
                continue;
            }
            subscriptions.insert(*channel, symbol.as_str());
        }
    }
    if subscriptions.is_empty() {
        let kind = if feed.class == Class::Crypto { "a pair such as BTC/USD" } else { "a symbol" };
        problems.add(
            "MONITORED_SYMBOLS",
            &symbols.join(","),
            &format!("{kind} and a channel for the feed {}", feed.name),
        );
    }
    subscriptions
}

fn codec(raw: &Raw, problems: &mut Problems) -> Option<Codec> {
    match raw.alpaca_codec.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("msgpack") => Some(Codec::MessagePack),
        Some("json") => Some(Codec::Json),
        Some(other) => {
            problems.add("ALPACA_CODEC", other, "msgpack or json");
            None
        }
    }
}

struct BaseUrl {
    url: String,
    loopback: bool,
}

fn base_url(raw: &Raw, problems: &mut Problems) -> Option<BaseUrl> {
    let text = raw.alpaca_stream_url.as_deref().unwrap_or("wss://stream.data.alpaca.markets");
    let uri = text.trim_end_matches('/').parse::<axum::http::Uri>().ok();
    let host = uri
        .as_ref()
        .filter(|uri| matches!(uri.scheme_str(), Some("ws" | "wss")))
        .filter(|uri| uri.query().is_none() && uri.authority().is_some_and(|a| !a.as_str().contains('@')))
        .and_then(|uri| uri.host());
    let Some(host) = host else {
        problems.add("ALPACA_STREAM_URL", text, "ws://HOST[:PORT] or wss://HOST[:PORT]");
        return None;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Some(BaseUrl { url: text.trim_end_matches('/').to_owned(), loopback })
}

/// A venue on this machine says nothing about where its history is, and must not be mixed with Alpaca's.
fn data_url(
    raw: &Raw,
    stream: Option<&BaseUrl>,
    problems: &mut Problems,
) -> Option<Result<String, &'static str>> {
    if raw.alpaca_data_url.is_none() && stream.is_some_and(|stream| stream.loopback) {
        return Some(Err("ALPACA_STREAM_URL is a loopback host, and ALPACA_DATA_URL is not set"));
    }
    let text = raw.alpaca_data_url.as_deref().unwrap_or("https://data.alpaca.markets").trim_end_matches('/');
    let uri = text.parse::<axum::http::Uri>().ok();
    let good = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if !good {
        problems.add("ALPACA_DATA_URL", text, "http://HOST[:PORT] or https://HOST[:PORT]");
    }
    good.then(|| Ok(text.to_owned()))
}

fn credentials(raw: &Raw, base: Option<&BaseUrl>, problems: &mut Problems) -> Option<Credentials> {
    let optional = base.is_some_and(|b| b.loopback);
    let mut read = |variable, value: &Option<String>| match value {
        Some(text) => Some(SecretString::from(text.clone())),
        // A venue on this machine still wants two words in its handshake.
        None if optional => Some(SecretString::from("loopback".to_owned())),
        None => {
            problems.add(
                variable,
                "nothing",
                "Alpaca's key and secret, unless ALPACA_STREAM_URL is a loopback host",
            );
            None
        }
    };
    let key = read("APCA_API_KEY_ID", &raw.apca_api_key_id);
    let secret = read("APCA_API_SECRET_KEY", &raw.apca_api_secret_key);
    Some(Credentials { key: key?, secret: secret? })
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}
