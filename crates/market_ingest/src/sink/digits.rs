//! Numbers as text, for the path of every record: whatever is short is copied in one piece of a length that the compiler
//! knows, which is a few stores, and then cut to what it is.

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};
/// No whole number has more digits.
const DIGITS_MAX: usize = 20;
/// A decimal of at most 15 digits is the only one of so few that reads as its number, so it is the shortest.
const EXACT_MAX: u64 = 1_000_000_000_000_000;

/// Appends the first `len` bytes of `text`.
#[inline(always)]
pub(super) fn put_cut<const ROOM: usize>(out: &mut Vec<u8>, text: &[u8; ROOM], len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(text);
    out.truncate(end);
}

#[inline]
fn pair(number: u64) -> [u8; 2] {
    PAIRS[(number % 100) as usize]
}

/// The digits of a number that end at [`DIGITS_MAX`], and where they begin.
#[inline(always)]
fn digits<const ROOM: usize>(mut number: u64) -> ([u8; ROOM], usize) {
    let mut text = [b'0'; ROOM];
    let mut end = DIGITS_MAX;
    while number >= 10_000 {
        end -= 2;
        text[end..end + 2].copy_from_slice(&pair(number));
        number /= 100;
    }
    // Up to four without a branch, for how many there are is anybody's guess.
    text[end - 2..end].copy_from_slice(&pair(number));
    text[end - 4..end - 2].copy_from_slice(&pair(number / 100));
    let more = usize::from(number >= 10) + usize::from(number >= 100) + usize::from(number >= 1000);
    (text, end - 1 - more)
}

/// Appends `len` bytes from `begin` on, of which there are no more than [`DIGITS_MAX`] and five.
#[inline(always)]
fn put_from(out: &mut Vec<u8>, text: &[u8; 48], begin: usize, len: usize) {
    if let Some(piece) = text[begin..].first_chunk::<25>() {
        put_cut(out, piece, len);
    }
}

/// Appends a whole number.
#[inline]
pub(super) fn whole(out: &mut Vec<u8>, number: u64) {
    let (text, begin) = digits::<48>(number);
    put_from(out, &text, begin, DIGITS_MAX - begin);
}

/// Nine digits, with zeros before.
#[inline]
pub(super) fn nine(number: u32) -> [u8; 9] {
    let (high, low) = (number / 10_000, u64::from(number % 10_000));
    let mut text = [b'0' + (high / 10_000 % 10) as u8; 9];
    let middle = u64::from(high % 10_000);
    for (at, two) in [(1, middle / 100), (3, middle), (5, low / 100), (7, low)] {
        text[at..at + 2].copy_from_slice(&pair(two));
    }
    text
}

/// Sixteen hexadecimal digits, eight at a time: each half byte gets a byte of its own.
#[inline]
pub(super) fn hexadecimal(number: u64) -> [u8; 16] {
    let half = |half: u64| {
        let mut spread = (half << 16 | half) & 0x0000_ffff_0000_ffff;
        spread = (spread << 8 | spread) & 0x00ff_00ff_00ff_00ff;
        spread = (spread << 4 | spread) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        (spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
    };
    let mut text = [0; 16];
    text[..8].copy_from_slice(&half(number >> 32));
    text[8..].copy_from_slice(&half(number & 0xffff_ffff));
    text
}

/// Appends the shortest text that reads back as the same number, whole ones without a point; `null` for what is none.
#[inline]
pub(super) fn number(out: &mut Vec<u8>, number: f64) {
    let hundredths = (number * 100.0 + 0.5) as u64;
    if hundredths < EXACT_MAX && hundredths as f64 / 100.0 == number {
        let (mut text, begin) = digits::<48>(hundredths / 100);
        let part = pair(hundredths);
        text[DIGITS_MAX..DIGITS_MAX + 3].copy_from_slice(&[b'.', part[0], part[1]]);
        let decimals = 2 * usize::from(part != [b'0'; 2]) + usize::from(part[1] != b'0');
        put_from(out, &text, begin, DIGITS_MAX - begin + decimals);
    } else {
        finer(out, number);
    }
}

/// Ten-thousandths, as of stocks below a dollar, and whatever else there is.
#[inline(never)]
fn finer(out: &mut Vec<u8>, number: f64) {
    let fine = (number * 1e4 + 0.5) as u64;
    if fine < EXACT_MAX && fine as f64 / 1e4 == number {
        let (mut text, begin) = digits::<48>(fine / 10_000);
        text[DIGITS_MAX] = b'.';
        text[DIGITS_MAX + 1..DIGITS_MAX + 3].copy_from_slice(&pair(fine / 100));
        text[DIGITS_MAX + 3..DIGITS_MAX + 5].copy_from_slice(&pair(fine));
        // The last two are not both zero, or these were hundredths.
        let decimals = if fine.is_multiple_of(10) { 4 } else { 5 };
        put_from(out, &text, begin, DIGITS_MAX - begin + decimals);
        return;
    }
    let as_whole = number as i64;
    if as_whole as f64 == number && as_whole.unsigned_abs() < 1 << 53 {
        out.extend_from_slice(itoa::Buffer::new().format(as_whole).as_bytes());
    } else if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// What is to be written: whole numbers by `itoa`, the others by `zmij`.
    fn expected(number: f64) -> String {
        let whole = number as i64;
        if whole as f64 == number && whole.unsigned_abs() < 1 << 53 {
            return itoa::Buffer::new().format(whole).to_owned();
        }
        zmij::Buffer::new().format_finite(number).to_owned()
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state ^ *state >> 31
    }

    #[test]
    fn a_number_has_the_shortest_text_whatever_it_is() {
        let mut state = 1;
        let few =
            [0.0, -0.0, 0.01, 0.1, 0.0001, 0.00001, 1e-7, 99.995, 1e15, 1e16, 1e22, -1.5, f64::MAX, 5e-324];
        let random = (0..1_000_000).flat_map(|_| {
            let (any, digits) = (random(&mut state), random(&mut state) % 18);
            let number = (any >> 8) % 10_u64.pow(digits as u32);
            let near = number as f64 / 100.0;
            [
                near,
                f64::from_bits(near.to_bits() + 1),
                number as f64 / 1e4,
                number as f64 / 1e5,
                f64::from_bits(any),
                number as f64,
            ]
        });
        for value in few.into_iter().chain(random).filter(|value| value.is_finite()) {
            assert_eq!(text(|out| number(out, value)), expected(value), "{value:e}");
        }
        assert_eq!(
            (text(|out| number(out, f64::NAN)), text(|out| number(out, f64::INFINITY))),
            ("null".into(), "null".into())
        );
    }

    #[test]
    fn whole_numbers_and_digits_are_those_of_the_library() {
        let mut state = 7;
        for bits in (0..64).cycle().take(200_000) {
            let number = random(&mut state) >> bits;
            assert_eq!(text(|out| whole(out, number)), number.to_string());
            assert_eq!(hexadecimal(number), *format!("{number:016x}").as_bytes());
            let part = (number % 1_000_000_000) as u32;
            assert_eq!(nine(part), *format!("{part:09}").as_bytes());
        }
        assert_eq!(
            (text(|out| whole(out, 0)), text(|out| whole(out, u64::MAX))),
            ("0".into(), u64::MAX.to_string())
        );
    }
}
