//! Messages about the connection.

use super::key::{self, Key};
use super::reader::{Fault, Reader, each_field, each_item};
use crate::message::Control;
use crate::subscription::{Channel, Subscriptions};

/// The keys of [`Channel::ALL`], in its order.
const CHANNEL_KEYS: [Key; Channel::ALL.len()] = {
    let mut keys = [Key::OTHER; Channel::ALL.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = Key::new(Channel::ALL[at].as_str());
        at += 1;
    }
    keys
};

/// Longest text of an error that is kept.
const MSG_CHARS_MAX: usize = 200;

/// A success, after its `T`.
pub(super) fn success<'a, R: Reader<'a>>(reader: &mut R, items: R::Items) -> Result<Control, Fault> {
    let mut msg = None;
    each_field(reader, items, |reader, key| {
        match key {
            key::MSG => msg = Some(reader.text()?),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let msg = msg.ok_or(Fault::Missing(key::MSG))?;
    Ok(match msg.as_str() {
        "connected" => Control::Connected,
        "authenticated" => Control::Authenticated,
        _ => Control::OtherSuccess(msg),
    })
}

/// An error, after its `T`; the text may be missing, the code not. Only the code decides, and the text goes into logs
/// and heartbeats, so it is cut.
pub(super) fn error<'a, R: Reader<'a>>(reader: &mut R, items: R::Items) -> Result<Control, Fault> {
    let (mut code, mut msg) = (None, String::new());
    each_field(reader, items, |reader, key| {
        match key {
            key::CODE => code = Some(u16::try_from(reader.whole()?).map_err(|_| Fault::NumberRange)?),
            key::MSG => msg = reader.text()?.chars().take(MSG_CHARS_MAX).collect(),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(Control::Error { code: code.ok_or(Fault::Missing(key::CODE))?, msg })
}

/// An acknowledgement, after its `T`; channels that are missing, null or empty are all empty.
pub(super) fn subscription<'a, R: Reader<'a>>(reader: &mut R, items: R::Items) -> Result<Control, Fault> {
    let mut subscriptions = Subscriptions::default();
    each_field(reader, items, |reader, key| {
        let Some(place) = CHANNEL_KEYS.iter().position(|channel| *channel == key) else {
            return reader.skip();
        };
        each_item(reader, |reader| {
            subscriptions.insert(Channel::ALL[place], reader.text()?);
            Ok(())
        })
    })?;
    Ok(Control::Subscription(subscriptions))
}
