//! The paths of the venue: which product each serves, on which channels, in which codec.

use crate::channel::Channel;

/// The wire format of a connection, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Msgpack,
}

impl Codec {
    /// The word for this codec in the log and the state.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::Json => "json",
            Codec::Msgpack => "msgpack",
        }
    }
}

/// What a stream is about; it decides the channels and which elements may flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Product {
    Stocks,
    Crypto,
    Perps,
    Options,
    News,
    /// `/v2/test`: stock channels, but only the symbol `FAKEPACA`.
    Test,
}

impl Product {
    /// The product to which a symbol belongs, told by its form: `BTC/USD`, `BTC-PERP`, `SPY260116C00650000`, `SPY`.
    pub(crate) fn of_symbol(symbol: &str) -> Product {
        if symbol.ends_with("-PERP") {
            Product::Perps
        } else if symbol.contains('/') {
            Product::Crypto
        } else if is_option_symbol(symbol) {
            Product::Options
        } else {
            Product::Stocks
        }
    }

    /// The channels that a client may ask for on streams of this product.
    pub(crate) fn channels(self) -> &'static [Channel] {
        use Channel::{
            Bars, CancelErrors, Corrections, DailyBars, Imbalances, Lulds, News, Orderbooks, Pricing, Quotes,
            Statuses, Trades, UpdatedBars,
        };
        match self {
            Product::Stocks | Product::Test => &[
                Trades,
                Quotes,
                Bars,
                UpdatedBars,
                DailyBars,
                Statuses,
                Lulds,
                Imbalances,
                Corrections,
                CancelErrors,
            ],
            Product::Crypto => &[Trades, Quotes, Bars, UpdatedBars, DailyBars, Orderbooks],
            Product::Perps => &[Trades, Quotes, Bars, UpdatedBars, DailyBars, Orderbooks, Pricing],
            Product::Options => &[Trades, Quotes],
            Product::News => &[News],
        }
    }
}

/// The OCC form: a root, six digits of date, `C` or `P`, eight digits of strike.
fn is_option_symbol(symbol: &str) -> bool {
    let bytes = symbol.as_bytes();
    let Some(root) = bytes.len().checked_sub(15) else {
        return false;
    };
    let tail = &bytes[root..];
    root > 0
        && tail[..6].iter().all(u8::is_ascii_digit)
        && matches!(tail[6], b'C' | b'P')
        && tail[7..].iter().all(u8::is_ascii_digit)
}

/// One stream path of the venue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) path: String,
    pub(crate) product: Product,
    /// The last part of the path: what plans allow or refuse.
    pub(crate) feed: String,
    /// False for a feed that does not exist: such a path still upgrades and is refused with 409 at auth.
    pub(crate) exists: bool,
}

impl Endpoint {
    /// The endpoint at `path`, or `None` where the venue answers HTTP 404.
    pub(crate) fn at(path: &str) -> Option<Endpoint> {
        let path = path.split('?').next().unwrap_or(path).trim_end_matches('/');
        let (product, exists) = match path {
            "/v2/sip" | "/v2/iex" | "/v2/delayed_sip" | "/v1beta1/boats" | "/v1beta1/overnight" => {
                (Product::Stocks, true)
            }
            "/v2/test" => (Product::Test, true),
            "/v1beta3/crypto/us"
            | "/v1beta3/crypto/us-1"
            | "/v1beta3/crypto/us-2"
            | "/v1beta3/crypto/eu-1"
            | "/v1beta3/crypto/bs-1" => (Product::Crypto, true),
            "/v1beta1/crypto-perps/global" => (Product::Perps, true),
            "/v1beta1/indicative" | "/v1beta1/opra" => (Product::Options, true),
            "/v1beta1/news" => (Product::News, true),
            _ => match path.strip_prefix("/v2/") {
                Some(feed) if !feed.is_empty() && !feed.contains('/') => (Product::Stocks, false),
                _ => return None,
            },
        };
        Some(Endpoint {
            path: path.to_owned(),
            product,
            feed: path.rsplit('/').next().unwrap_or_default().to_owned(),
            exists,
        })
    }

    /// The codec for a `Content-Type`; options speak MessagePack unless JSON is asked for, all others JSON.
    pub(crate) fn codec(&self, content_type: Option<&str>) -> Codec {
        let asked = content_type.map(|v| v.split(';').next().unwrap_or(v).trim());
        match asked {
            Some(v) if v.eq_ignore_ascii_case("application/msgpack") => Codec::Msgpack,
            None if self.product == Product::Options => Codec::Msgpack,
            Some(_) | None => Codec::Json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_tell_their_product() {
        for (symbol, product) in [
            ("SPY", Product::Stocks),
            ("BRK.B", Product::Stocks),
            ("BTC/USD", Product::Crypto),
            ("BTC-PERP", Product::Perps),
            ("SPY260116C00650000", Product::Options),
            ("260116C00650000", Product::Stocks),
        ] {
            assert_eq!(Product::of_symbol(symbol), product, "{symbol}");
        }
    }

    #[test]
    fn paths_lead_to_products_and_unknown_ones_nowhere() {
        let product = |path| Endpoint::at(path).map(|e| (e.product, e.exists));
        assert_eq!(product("/v2/iex"), Some((Product::Stocks, true)));
        assert_eq!(product("/v2/iex/?x=1"), Some((Product::Stocks, true)));
        assert_eq!(product("/v2/nonsense"), Some((Product::Stocks, false)));
        assert_eq!(product("/v1beta3/crypto/us"), Some((Product::Crypto, true)));
        assert_eq!(product("/v1beta1/boats"), Some((Product::Stocks, true)));
        for path in ["/", "/v2/", "/v2/a/b", "/v1beta3/crypto/eu", "/v2/boats/x"] {
            assert_eq!(product(path), None, "{path}");
        }
    }

    #[test]
    fn options_speak_msgpack_by_default_and_others_json() {
        let codec = |path, kind| Endpoint::at(path).map(|e| e.codec(kind));
        assert_eq!(codec("/v1beta1/opra", None), Some(Codec::Msgpack));
        assert_eq!(codec("/v1beta1/opra", Some("application/json")), Some(Codec::Json));
        assert_eq!(codec("/v2/iex", None), Some(Codec::Json));
        assert_eq!(codec("/v2/iex", Some("application/msgpack; charset=x")), Some(Codec::Msgpack));
    }
}
