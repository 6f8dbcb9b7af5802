#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use alpaca_feed::message::Codec;
use alpaca_feed::subscription::Channel;
use secrecy::ExposeSecret as _;

use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Config, Problems> {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_vars(vars, true)
}

/// With credentials, which every run against Alpaca needs.
fn read_keyed(vars: &[(&str, &str)]) -> Result<Config, Problems> {
    let keys = [("APCA_API_KEY_ID", "K"), ("APCA_API_SECRET_KEY", "S")];
    read(&[&keys[..], vars].concat())
}

/// The value is refused, and the message names the variable, the value and what would do.
fn check_refused(name: &'static str, value: &str, accepted: &str) {
    let problems = read_keyed(&[(name, value)]).unwrap_err();
    let told = problems
        .as_slice()
        .iter()
        .find(|p| p.variable == name)
        .unwrap_or_else(|| panic!("{name}={value}: {problems}"));
    assert!(told.found.as_deref().is_some_and(|f| value.contains(f)), "{told}");
    assert!(told.accepted.contains(accepted), "{told}");
}

#[test]
fn several_sinks_may_be_named_each_with_its_target() {
    let config =
        read_keyed(&[("INGEST_SINKS", "quotes, ndjson:a/b ,ndjson:c,parquet:a/b,ndjson:c")]).unwrap();
    let ndjson = |dir: &str| SinkConfig::Ndjson(dir.into());
    let expected = [SinkConfig::Quotes, ndjson("a/b"), ndjson("c"), SinkConfig::Parquet("a/b".into())];
    assert_eq!(config.sinks, expected);
}

#[test]
fn a_topic_is_found_in_the_project_unless_it_names_one() {
    let topic = |vars: &[(&str, &str)]| match &read_keyed(vars).unwrap().sinks[..] {
        [SinkConfig::Pubsub(topic)] => topic.clone(),
        other => panic!("{other:?}"),
    };
    let short = ("INGEST_SINKS", "pubsub:ticks");
    let project = ("GOOGLE_CLOUD_PROJECT", "mine");
    // A project also says that the store is Firestore; that is another matter.
    let store = ("INGEST_STORE", "sqlite:x.db");
    let emulator = ("PUBSUB_EMULATOR_HOST", "h:1");
    assert_eq!(topic(&[short, project, store]).name, "projects/mine/topics/ticks");
    assert_eq!(topic(&[short, project, store]).emulator_host, None);
    assert_eq!(topic(&[short, project, store, emulator]).emulator_host.as_deref(), Some("h:1"));
    assert_eq!(
        topic(&[short, project, store, ("FIRESTORE_PROJECT_ID", "f")]).name,
        "projects/f/topics/ticks"
    );
    let long = ("INGEST_SINKS", "pubsub:projects/theirs/topics/t-1.x");
    assert_eq!(topic(&[long, project, store]).name, "projects/theirs/topics/t-1.x");
    check_refused("INGEST_SINKS", "pubsub:ticks", "GOOGLE_CLOUD_PROJECT");
    for wrong in
        ["pubsub:", "pubsub:ab", "pubsub:1ab", "pubsub:google", "pubsub:a b c", "pubsub:topics/ticks"]
    {
        check_refused("INGEST_SINKS", wrong, "pubsub:projects/PROJECT/topics/TOPIC");
    }
    for wrong in [
        "pubsub:projects//topics/ticks",
        "pubsub:projects/p/topics/",
        "pubsub:projects/p/subscriptions/ticks",
    ] {
        check_refused("INGEST_SINKS", wrong, "3 to 255 letters");
    }
}

#[test]
fn a_nats_url_names_server_stream_and_login_and_shows_no_login() {
    let stream = |text: &str| match &read_keyed(&[("INGEST_SINKS", text)]).unwrap().sinks[..] {
        [SinkConfig::Nats(stream)] => stream.clone(),
        other => panic!("{other:?}"),
    };
    let open = stream("nats:nats://h/MARKET");
    assert_eq!((open.to_string().as_str(), open.stream.as_str()), ("nats://h:4222/MARKET", "MARKET"));
    assert!(matches!(open.login, NatsLogin::Nobody));
    let user = stream("nats:tls://in%2Cgest:p%40ss:w%C3%A9@h.x:7/a_B-1");
    assert_eq!(user.to_string(), "tls://h.x:7/a_B-1");
    let NatsLogin::User(name, password) = &user.login else { panic!("{user:?}") };
    assert_eq!((name.as_str(), password.expose_secret()), ("in,gest", "p@ss:wé"));
    let token = stream("nats:nats://s3cret@[::1]:4222/S");
    assert!(matches!(&token.login, NatsLogin::Token(token) if token.expose_secret() == "s3cret"));
    assert_eq!(token.server, "nats://[::1]:4222");
    assert!(!format!("{user:?}{token:?}").contains("s3cret") && !format!("{user:?}").contains("p@ss"));
    // One stream is one sink.
    assert_eq!(stream("nats:nats://h/S,nats:nats://t@h:4222/S").server, "nats://h:4222");
    for wrong in [
        "nats:",
        "nats:h/S",
        "nats:http://h/S",
        "nats:nats://h",
        "nats:nats://h/",
        "nats:nats://h/a.b",
        "nats:nats://h/a/b",
        "nats:nats://h:0/S",
        "nats:nats://h:70000/S",
        "nats:nats:///S",
    ] {
        check_refused("INGEST_SINKS", wrong, "nats:nats://HOST[:PORT]/STREAM");
    }
    let problems =
        read_keyed(&[("INGEST_SINKS", "quotes,nats:nats://user:hunter2@h/a.b")]).unwrap_err().to_string();
    assert!(problems.contains("@h/a.b") && !problems.contains("hunter2"), "{problems}");
    let vars = [("INGEST_SINKS".to_owned(), "null,nats:nats://hunter2@h/S".to_owned())];
    assert!(!listing(vars).contains("hunter2"));
}

/// Each piece of a login that a comma tore apart is a word of its own.
#[test]
fn no_piece_of_a_torn_login_is_shown_and_the_comma_is_told() {
    for (torn, hint) in [
        ("nats:nats://s3cret:s3cret,s3cret@h:4222/S", true),
        ("nats:nats://s3cret,s3cret@h/S", true),
        ("nats://s3cret,s3cret@h/S", true),
        ("quotes,nats:tls://s3cret:4222/S,s3cret,quotes,s3cret@h/S, null", true),
        ("ndjson:a,nats:nats://s3cret:a@s3cret,s3cret@h/S", false),
        ("nats:s3cret:s3cret,s3cret@h/S", false),
        ("s3cret:s3cret@h/S", false),
        ("s3cret,s3cret@h/S", false),
        ("nats:nats://user:s3cret", false),
        ("nats:nats://user:s3cret/S", false),
        ("quotes,nats:tls://user:s3cret,null", false),
        ("nats:nats://h/S?token=s3cret", false),
        ("nats:nats://h/S?token=s3cret@s3cret", false),
    ] {
        let problems = read_keyed(&[("INGEST_SINKS", torn)]).unwrap_err().to_string();
        let listed = listing([("INGEST_SINKS".to_owned(), torn.to_owned())]);
        assert_eq!(problems.contains("a comma in a login must be written %2C"), hint, "{torn}: {problems}");
        assert!(!hint || problems.starts_with("1 problem "), "{torn}: {problems}");
        assert!(problems.contains("INGEST_SINKS: found"), "{torn}: {problems}");
        assert!(!problems.contains("s3cret") && !listed.contains("s3cret"), "{torn}: {problems} {listed}");
    }
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = read_keyed(&[]).unwrap();
    assert_eq!(config.switch.poll, Duration::from_secs(5));
    assert_eq!(config.switch.env, None);
    assert_eq!(config.tenant, None);
    assert!(matches!(config.store, StoreConfig::Sqlite(path) if path == Path::new("market-ingest.db")));
    assert_eq!(config.heartbeat_interval, Duration::from_secs(15));
    assert_eq!(config.sinks, [SinkConfig::Quotes]);
    assert_eq!(config.pacing.per_symbol_interval, Duration::from_secs(1));
    assert_eq!(config.pacing.flush_interval, Duration::from_millis(200));
    assert_eq!((config.pacing.writes_per_s, config.pacing.burst), (20.0, 40.0));
    assert_eq!((config.backoff_base, config.backoff_max), (Duration::from_secs(1), Duration::from_secs(60)));
    assert_eq!(config.mute_after, Duration::from_secs(30));
    assert_eq!(config.backfill_after, Duration::from_secs(10));
    assert_eq!((config.bind.to_string().as_str(), config.port), ("127.0.0.1", 8080));
    assert_eq!((config.dry_run, config.stop_after), (false, None));
    let [job] = &config.jobs[..] else { panic!("one job") };
    assert_eq!(job.name, "iex");
    assert_eq!(job.url, "wss://stream.data.alpaca.markets/v2/iex");
    assert_eq!(job.codec, Codec::MessagePack);
    for channel in [Channel::Trades, Channel::Quotes, Channel::Bars] {
        assert!(job.subscriptions.contains(channel, "SPY"));
    }
    assert_eq!(job.subscriptions.len(), 3);
}

#[test]
fn blank_is_unset_everywhere() {
    let blanks: Vec<(&str, &str)> =
        VARIABLES.iter().filter(|v| !v.name.starts_with("APCA_")).map(|v| (v.name, " \t")).collect();
    let blank = read_keyed(&blanks).unwrap();
    assert_eq!(format!("{blank:?}"), format!("{:?}", read_keyed(&[]).unwrap()));
}

#[test]
fn a_bad_value_names_the_variable_what_was_found_and_what_is_accepted() {
    check_refused("INGEST_ENABLED_POLL_S", "0.04", "0.05");
    check_refused("INGEST_ENABLED_POLL_S", "soon", "number");
    check_refused("INGEST_ENABLED_POLL_S", "NaN", "number");
    check_refused("HEARTBEAT_INTERVAL_S", "0.5", "from 1");
    check_refused("HEARTBEAT_INTERVAL_S", "1e300", "number");
    check_refused("PORT", "65536", "65535");
    check_refused("PORT", "-1", "65535");
    check_refused("INGEST_BIND", "localhost", "IP address");
    check_refused("DRY_RUN", "maybe", "true or false");
    check_refused("STOP_AFTER_SECONDS", "0", "number");
    check_refused("LOG_FORMAT", "xml", "json or text");
    check_refused("TENANT_ID", "a/b", "no '/'");
    check_refused("TENANT_ID", "..", "no '/'");
    for value in ["quotes,fax", ",", "ndjson", "ndjson:", "parquet: ", "quotes:DIR"] {
        check_refused(
            "INGEST_SINKS",
            value,
            "quotes, ndjson:DIR, parquet:DIR, pubsub:TOPIC, nats:URL/STREAM, null",
        );
    }
    check_refused("ALPACA_CHANNELS", ",", "trades");
    check_refused("INGEST_STORE", "mongodb", "sqlite:PATH");
    check_refused("INGEST_STORE", "sqlite:", "sqlite:PATH");
    check_refused("ALPACA_CODEC", "protobuf", "msgpack or json");
    check_refused("ALPACA_DATA_FEED", "nasdaq", "sip");
    check_refused("ALPACA_CHANNELS", "trades,ticks", "quotes");
    check_refused("ALPACA_CHANNELS", "corrections", "trades");
    check_refused("ALPACA_CHANNELS", "orderbooks", "trades quotes bars");
    check_refused("ALPACA_STREAM_URL", "https://example.com", "wss://HOST");
    check_refused("ALPACA_STREAM_URL", "example.com", "wss://HOST");
    check_refused("GLOBAL_WRITES_PER_SEC", "0", "number");
    check_refused("GLOBAL_BURST", "0.5", "from 1");
    check_refused("PER_SYMBOL_MIN_INTERVAL_MS", "-1", "from 0");
    check_refused("RECONNECT_BACKOFF_MAX_S", "0.5", "RECONNECT_BACKOFF_BASE_S");
    check_refused("INGEST_MUTE_AFTER_S", "0.5", "from 1");
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = read(&[
        ("PORT", "http"),
        ("INGEST_ENABLED_POLL_S", "0"),
        ("ALPACA_DATA_FEED", "x,y"),
        ("INGEST_STORE", "firestore"),
    ])
    .unwrap_err();
    let named: Vec<_> = problems.as_slice().iter().map(|p| p.variable).collect();
    for variable in [
        "PORT",
        "INGEST_ENABLED_POLL_S",
        "ALPACA_DATA_FEED",
        "FIRESTORE_PROJECT_ID",
        "APCA_API_KEY_ID",
        "APCA_API_SECRET_KEY",
    ] {
        assert!(named.contains(&variable), "{variable} is missing in: {problems}");
    }
    assert!(problems.to_string().starts_with("7 problems"), "{problems}");
}

#[test]
fn what_to_fetch_is_a_word_or_a_window() {
    let backfill = |text: &str| read_keyed(&[("INGEST_BACKFILL", text)]).map(|config| config.backfill);
    assert_eq!(backfill("").unwrap(), BackfillConfig::Full);
    assert_eq!(backfill("Full").unwrap(), BackfillConfig::Full);
    assert_eq!(backfill("none").unwrap(), BackfillConfig::None);
    assert_eq!(backfill("90m").unwrap(), BackfillConfig::Window(Duration::from_secs(5400)));
    for bad in ["soon", "-2h", "0s", "2"] {
        let problems = backfill(bad).unwrap_err().to_string();
        assert!(problems.contains(bad) && problems.contains("none, full"), "{bad}: {problems}");
    }
}

#[test]
fn a_venue_on_this_machine_is_not_mixed_with_alpacas_history() {
    let history = |vars: &[(&str, &str)]| {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_vars(vars, false).unwrap().jobs[0].history.clone()
    };
    let stream = ("ALPACA_STREAM_URL", "ws://127.0.0.1:1");
    assert!(history(&[stream]).unwrap_err().contains("ALPACA_DATA_URL"));
    let trades = alpaca_feed::subscription::Channel::Trades;
    let own = history(&[stream, ("ALPACA_DATA_URL", "http://127.0.0.1:2/")]).unwrap();
    assert_eq!((own.url(trades).as_str(), own.feed), ("http://127.0.0.1:2/v2/stocks/trades", Some("iex")));
    let crypto = history(&[
        stream,
        ("ALPACA_DATA_URL", "http://[::1]:2"),
        ("ALPACA_DATA_FEED", "crypto-us-1"),
        ("MONITORED_SYMBOLS", "BTC/USD"),
    ]);
    let crypto = crypto.unwrap();
    assert_eq!(crypto.url(trades), "http://[::1]:2/v1beta3/crypto/us-1/trades");
    assert_eq!(crypto.latest(trades).unwrap().0, "http://[::1]:2/v1beta3/crypto/us-1/latest/trades");
    let newest = ("http://127.0.0.1:2/v2/stocks/trades/latest".to_owned(), Some("iex"));
    assert_eq!(own.latest(trades), Some(newest));
    // What is newest there is newer than what this stream sends.
    let data = ("ALPACA_DATA_URL", "http://127.0.0.1:2");
    let late = history(&[stream, data, ("ALPACA_DATA_FEED", "delayed_sip")]).unwrap();
    assert_eq!((late.latest(trades), late.feed), (None, Some("sip")));
    for bad in ["data.alpaca.markets", "ftp://x", "http://u:p@h"] {
        let vars =
            [stream, ("ALPACA_DATA_URL", bad)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(Config::from_vars(vars, false).unwrap_err().to_string().contains("ALPACA_DATA_URL"), "{bad}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let vars = || {
        [("APCA_API_KEY_ID", "AKSECRET"), ("APCA_API_SECRET_KEY", "topsecret")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
    };
    let mut config = Config::from_vars(vars(), true).unwrap();
    config.store = read_keyed(&[("INGEST_STORE", "postgres://user:topsecret@db/x")]).unwrap().store;
    config.admin_token = read_keyed(&[("INGEST_ADMIN_TOKEN", "topsecret")]).unwrap().admin_token;
    assert!(config.admin_token.is_some() && matches!(config.store, StoreConfig::Postgres(_)));
    for text in [format!("{config:?}"), listing(vars())] {
        assert!(!text.contains("AKSECRET") && !text.contains("topsecret"), "{text}");
    }
    for (name, value) in [
        ("INGEST_STORE", "mysql://user:hunter2@db/x"),
        ("INGEST_STORE", "postgres:hunter2@db/x"),
        ("INGEST_STORE", "postgres://user:hunter2@db:port/x"),
        ("INGEST_STORE", "postgres://user:hunter2@db/x?sslmode=always"),
        ("INGEST_STORE", "postgres://db/x?user=u&sslpassword=hunter2"),
        ("INGEST_STORE", "postgres://db/x?Password=hunter2"),
        ("INGEST_STORE", "postgres:db/x?password=hunter2"),
        ("INGEST_STORE", "mysql://db/x?password=hunter2"),
        ("INGEST_STORE", "host=db PASSWORD=hunter2"),
        ("ALPACA_STREAM_URL", "wss://k:hunter2@example.com"),
    ] {
        let problems = read(&[(name, value)]).unwrap_err();
        assert!(problems.as_slice().iter().any(|p| p.variable == name), "{problems}");
        let listed = listing([(name.to_owned(), value.to_owned())]);
        assert!(
            !problems.to_string().contains("hunter2") && !listed.contains("hunter2"),
            "{problems} {listed}"
        );
    }
}

#[test]
fn a_password_among_the_parameters_of_the_store_is_taken_and_not_shown() {
    for url in [
        "postgres://db/x?user=hunter2&password=hunter2",
        "postgres://db/x?password=a@hunter2",
        "postgresql://u:hunter2@db/x?sslmode=disable&password=hunter2&passfile=p",
    ] {
        let store = read_keyed(&[("INGEST_STORE", url)]).unwrap().store;
        assert!(matches!(&store, StoreConfig::Postgres(own) if own.expose_secret() == url), "{url}");
        let listed = listing([("INGEST_STORE".to_owned(), url.to_owned())]);
        assert!(!listed.contains("hunter2") && listed.contains("***"), "{listed}");
    }
}

#[test]
fn credentials_are_optional_for_a_loopback_venue_only() {
    for url in ["ws://127.0.0.1:9", "ws://localhost:9/", "ws://[::1]:9", "wss://127.1.2.3"] {
        let config = read(&[("ALPACA_STREAM_URL", url)]).unwrap();
        assert_eq!(config.jobs[0].url, format!("{}/v2/iex", url.trim_end_matches('/')));
    }
    for url in ["ws://10.0.0.1:9", "wss://localhost.example.com"] {
        let problems = read(&[("ALPACA_STREAM_URL", url)]).unwrap_err();
        assert_eq!(problems.as_slice().len(), 2, "{problems}");
    }
}

#[test]
fn pairs_go_to_crypto_and_the_rest_to_stocks() {
    let config = read_keyed(&[
        ("ALPACA_DATA_FEED", "iex,crypto-us,news"),
        ("MONITORED_SYMBOLS", "aapl, btc/usd ,MSFT"),
    ])
    .unwrap();
    let symbols = |job: usize, channel| {
        let of_channel = config.jobs[job].subscriptions.iter().filter(|(c, _)| *c == channel);
        of_channel.map(|(_, symbol)| symbol.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(symbols(0, Channel::Trades), ["AAPL", "MSFT"]);
    assert_eq!(symbols(1, Channel::Quotes), ["BTC/USD"]);
    assert_eq!(symbols(2, Channel::News), ["AAPL", "BTC/USD", "MSFT"]);
    assert_eq!(config.jobs[1].url, "wss://stream.data.alpaca.markets/v1beta3/crypto/us");
}

#[test]
fn news_alone_needs_no_channels_to_be_named() {
    let config = read_keyed(&[("ALPACA_DATA_FEED", "news"), ("MONITORED_SYMBOLS", "*")]).unwrap();
    assert!(config.jobs[0].subscriptions.contains(Channel::News, "AAPL"));
    assert_eq!(config.jobs[0].subscriptions.len(), 1);
}

#[test]
fn a_feed_without_symbols_is_a_problem_not_an_idle_job() {
    let problems = read_keyed(&[("ALPACA_DATA_FEED", "crypto-us")]).unwrap_err();
    assert!(problems.to_string().contains("BTC/USD"), "{problems}");
}

#[test]
fn options_speak_messagepack_and_refuse_a_star_on_quotes() {
    let problems = read_keyed(&[("ALPACA_DATA_FEED", "opra"), ("ALPACA_CODEC", "json")]).unwrap_err();
    assert_eq!(problems.as_slice()[0].variable, "ALPACA_CODEC");
    let problems = read_keyed(&[("ALPACA_DATA_FEED", "opra"), ("MONITORED_SYMBOLS", "*")]).unwrap_err();
    assert!(problems.to_string().contains("named contracts"), "{problems}");
}

#[test]
fn the_store_follows_the_platform() {
    let firestore = |emulator: Option<&str>| StoreConfig::Firestore {
        project: "p".into(),
        emulator_host: emulator.map(str::to_owned),
    };
    for (vars, expected) in [
        (vec![("FIRESTORE_PROJECT_ID", "p")], firestore(None)),
        (vec![("FIRESTORE_EMULATOR_HOST", "h:1"), ("GOOGLE_CLOUD_PROJECT", "p")], firestore(Some("h:1"))),
        (vec![("K_SERVICE", "s"), ("GOOGLE_CLOUD_PROJECT", "p")], firestore(None)),
        (vec![("GOOGLE_CLOUD_PROJECT", "p")], StoreConfig::Sqlite("market-ingest.db".into())),
        (
            vec![("FIRESTORE_PROJECT_ID", "p"), ("INGEST_STORE", "sqlite:/x.db")],
            StoreConfig::Sqlite("/x.db".into()),
        ),
    ] {
        let found = read_keyed(&vars).unwrap().store;
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{vars:?}");
    }
}

#[test]
fn a_platform_binds_every_address_and_logs_json() {
    let config = read_keyed(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).unwrap();
    assert_eq!((config.bind.to_string().as_str(), config.log_format), ("0.0.0.0", LogFormat::Json));
}

#[test]
fn a_feed_carries_its_own_kind_of_symbol_only() {
    assert_eq!(feed_channels("nonsense", "AAPL"), None);
    assert_eq!(feed_channels("news", "BTC/USD"), Some(vec!["news"]));
    assert_eq!(feed_channels("crypto-us", "AAPL"), Some(vec![]));
    assert_eq!(feed_channels("opra", "*"), Some(vec!["trades", "quotes"]));
    for (feed, symbol) in [("iex", "AAPL"), ("crypto-us", "BTC/USD"), ("news", "AAPL")] {
        let channels = feed_channels(feed, symbol).unwrap();
        assert!(channels.iter().all(|channel| ingest_switch::CHANNELS.contains(channel)), "{channels:?}");
        assert!(!channels.is_empty());
    }
}

#[test]
fn a_url_without_a_login_is_shown_whole() {
    for text in
        ["ws://127.0.0.1:4000/v2", "nats:nats://[::1]:4222/S", "nats:nats://[::1]/S", "http://h", "a,b:c"]
    {
        assert_eq!(listing::without_password(text), text);
    }
}
