//! The usual spelling in MessagePack: short texts, floats and unsigned numbers of any width, times of 4 or 8 bytes.

use super::{Opened, Usual, take, word};
use crate::decode::names::Names;
use crate::decode::time::{self, Minute};
use crate::message::Conditions;
use crate::symbol::SymbolId;

/// See the module.
pub(in crate::decode) struct MessagePack;

impl Usual for MessagePack {
    #[inline(always)]
    fn open(rest: &mut &[u8]) -> Option<Opened> {
        let (head, behind) = rest.split_first_chunk::<5>()?;
        let [map @ 0x80..=0x8f, 0xa1, b'T', 0xa1, tag] = *head else { return None };
        *rest = behind;
        Some(Opened { tag, fields: map & 0x0f })
    }

    #[inline(always)]
    fn name<const N: usize>(rest: &mut &[u8], name: [u8; N]) -> Option<()> {
        let expected = 0xa0 | N as u64 | word(name) << 8;
        let found = u64::from(u32::from_le_bytes(*rest.first_chunk()?)) & ((1 << (8 * N + 8)) - 1);
        *rest = &rest[N + 1..];
        (found == expected).then_some(())
    }

    #[inline(always)]
    fn symbol(rest: &mut &[u8], names: &Names) -> Option<SymbolId> {
        let ([marker, word @ ..], _) = rest.split_first_chunk::<9>()?;
        let len = marker.wrapping_sub(0xa0);
        if !(1..=8).contains(&len) {
            return None;
        }
        let id = names.known(u64::from_le_bytes(*word) & (u64::MAX >> (64 - 8 * u32::from(len))))?;
        *rest = &rest[1 + usize::from(len)..];
        Some(id)
    }

    #[inline(always)]
    fn letter(rest: &mut &[u8]) -> Option<u8> {
        let ([0xa1, letter], behind) = rest.split_first_chunk()? else { return None };
        *rest = behind;
        Some(*letter)
    }

    #[inline(always)]
    fn letters(rest: &mut &[u8]) -> Option<Conditions> {
        let ([list @ 0x90..=0x9f], behind) = rest.split_first_chunk()? else { return None };
        *rest = behind;
        let mut conditions = Conditions::default();
        for _ in 0..list & 0x0f {
            if !conditions.push_letter(Self::letter(rest)?) {
                return None;
            }
        }
        Some(conditions)
    }

    #[inline(always)]
    fn number(rest: &mut &[u8]) -> Option<f64> {
        let ([0xcb, float @ ..], behind) = rest.split_first_chunk::<9>()? else {
            return Self::whole(rest).map(|whole| whole as f64);
        };
        *rest = behind;
        Some(f64::from_be_bytes(*float)).filter(|number| number.is_finite())
    }

    #[inline(always)]
    fn whole(rest: &mut &[u8]) -> Option<u64> {
        let ([marker, word @ ..], _) = rest.split_first_chunk::<9>()?;
        if *marker < 0x80 {
            *rest = &rest[1..];
            return Some(u64::from(*marker));
        }
        // 1, 2, 4 or 8 bytes, cut out of eight.
        let power = marker.wrapping_sub(0xcc);
        if power > 3 {
            return None;
        }
        let len = 1 << power;
        let whole = u64::from_be_bytes(*word) >> (64 - 8 * len);
        *rest = &rest[1 + len..];
        Some(whole)
    }

    #[inline(always)]
    fn time(rest: &mut &[u8], _: &mut Minute) -> Option<i64> {
        if let Some(([0xd7, 0xff, both @ ..], behind)) = rest.split_first_chunk::<10>() {
            *rest = behind;
            let both = u64::from_be_bytes(*both);
            // 30 bits of nanoseconds above 34 bits of seconds: neither cast cuts anything.
            return time::from_parts((both & ((1 << 34) - 1)) as i64, (both >> 34) as u32).ok();
        }
        let ([0xd6, 0xff, seconds @ ..], behind) = rest.split_first_chunk::<6>()? else { return None };
        *rest = behind;
        time::from_parts(i64::from(u32::from_be_bytes(*seconds)), 0).ok()
    }

    #[inline(always)]
    fn close(rest: &mut &[u8], opened: &Opened, fields: u8) -> Option<Option<i64>> {
        if opened.fields == fields {
            return Some(None);
        }
        if opened.fields != fields + 1 {
            return None;
        }
        take(rest, *b"\xa1r")?;
        Self::time(rest, &mut Minute::default()).map(Some)
    }
}
