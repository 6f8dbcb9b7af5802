//! Trades and quotes exactly as the stock streams write them: a guess that nearly always comes true.
//!
//! The order of keys and the spelling of values have been the same in every capture (`T,S,i,x,p,s,c,z,t` and
//! `T,S,bx,bp,bs,ax,ap,as,c,z,t`, in MessagePack perhaps with an `r` behind), so each is compared with what is expected
//! instead of being found out.
//!
//! Invariant: whatever is spelled otherwise is `None`, and the tolerant path reads the element from its beginning. What
//! is not `None` is what the tolerant path would have read: `tests/it/codec_*` hold both to one oracle.

pub(super) mod json;
pub(super) mod msgpack;

use super::names::Names;
use super::time::Minute;
use crate::message::{Code, Conditions, Event, Quote, Trade};
use crate::symbol::SymbolId;

/// How one codec spells things. Each takes what it reads off the front of `rest`; after a `None`, `rest` is of no use.
pub(super) trait Usual {
    /// An element's head and its type, one letter.
    fn open(rest: &mut &[u8]) -> Option<Opened>;
    /// The field's name, which follows another field.
    fn name<const N: usize>(rest: &mut &[u8], name: [u8; N]) -> Option<()>;
    /// A symbol that was seen before, of at most eight bytes.
    fn symbol(rest: &mut &[u8], names: &Names) -> Option<SymbolId>;
    /// A text of one ASCII character.
    fn letter(rest: &mut &[u8]) -> Option<u8>;
    /// A list of such texts.
    fn letters(rest: &mut &[u8]) -> Option<Conditions>;
    /// A finite number.
    fn number(rest: &mut &[u8]) -> Option<f64>;
    /// A whole number that is not negative.
    fn whole(rest: &mut &[u8]) -> Option<u64>;
    /// A time.
    fn time(rest: &mut &[u8], minute: &mut Minute) -> Option<i64>;
    /// Alpaca's own time of receipt and the element's end, after so many fields.
    fn close(rest: &mut &[u8], opened: &Opened, fields: u8) -> Option<Option<i64>>;
}

/// The head of an element.
pub(super) struct Opened {
    /// Its type.
    pub(super) tag: u8,
    /// How many fields it has, where the codec tells.
    pub(super) fields: u8,
}

/// The trade or quote at the front of `rest`, which is then behind it.
#[inline(always)]
pub(super) fn element<U: Usual>(rest: &mut &[u8], names: &mut Names) -> Option<Event> {
    let opened = U::open(rest)?;
    match opened.tag {
        b'q' => quote::<U>(rest, &opened, names).map(Event::Quote),
        b't' => trade::<U>(rest, &opened, names).map(Event::Trade),
        _ => None,
    }
}

#[inline(always)]
fn quote<U: Usual>(rest: &mut &[u8], opened: &Opened, names: &mut Names) -> Option<Quote> {
    U::name(rest, *b"S")?;
    let symbol = U::symbol(rest, names)?;
    U::name(rest, *b"bx")?;
    let bid_exchange = Code::from_ascii(U::letter(rest)?)?;
    U::name(rest, *b"bp")?;
    let bid_price = U::number(rest)?;
    U::name(rest, *b"bs")?;
    let bid_size = U::number(rest)?;
    U::name(rest, *b"ax")?;
    let ask_exchange = Code::from_ascii(U::letter(rest)?)?;
    U::name(rest, *b"ap")?;
    let ask_price = U::number(rest)?;
    U::name(rest, *b"as")?;
    let ask_size = U::number(rest)?;
    let Tail { conditions, tape, ts, received_ts } = tail::<U>(rest, opened, 11, names)?;
    Some(Quote {
        ts,
        received_ts,
        bid_price,
        bid_size,
        ask_price,
        ask_size,
        symbol,
        bid_exchange,
        ask_exchange,
        tape,
        conditions,
    })
}

#[inline(always)]
fn trade<U: Usual>(rest: &mut &[u8], opened: &Opened, names: &mut Names) -> Option<Trade> {
    U::name(rest, *b"S")?;
    let symbol = U::symbol(rest, names)?;
    U::name(rest, *b"i")?;
    let id = Some(U::whole(rest)?);
    U::name(rest, *b"x")?;
    let exchange = Code::from_ascii(U::letter(rest)?)?;
    U::name(rest, *b"p")?;
    let price = U::number(rest)?;
    U::name(rest, *b"s")?;
    let size = U::number(rest)?;
    let Tail { conditions, tape, ts, received_ts } = tail::<U>(rest, opened, 9, names)?;
    let taker_side = Code::default();
    Some(Trade { ts, received_ts, id, price, size, symbol, exchange, tape, taker_side, conditions })
}

/// What quotes and trades end with.
struct Tail {
    conditions: Conditions,
    tape: Code,
    ts: i64,
    received_ts: Option<i64>,
}

#[inline(always)]
fn tail<U: Usual>(rest: &mut &[u8], opened: &Opened, fields: u8, names: &mut Names) -> Option<Tail> {
    U::name(rest, *b"c")?;
    let conditions = U::letters(rest)?;
    U::name(rest, *b"z")?;
    let tape = Code::from_ascii(U::letter(rest)?)?;
    U::name(rest, *b"t")?;
    let ts = U::time(rest, &mut names.minute)?;
    let received_ts = U::close(rest, opened, fields)?;
    Some(Tail { conditions, tape, ts, received_ts })
}

/// Takes `expected` off the front.
#[inline(always)]
pub(super) fn take<const N: usize>(rest: &mut &[u8], expected: [u8; N]) -> Option<()> {
    let (found, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    (*found == expected).then_some(())
}

/// A short name as a number, the first byte lowest; worked out at compile time wherever the name is known.
#[inline(always)]
fn word<const N: usize>(name: [u8; N]) -> u64 {
    name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}
