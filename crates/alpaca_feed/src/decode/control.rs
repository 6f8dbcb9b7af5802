//! Messages about the connection.

use super::key;
use super::reader::{Fault, Reader, each_field, each_item};
use crate::message::Control;
use crate::subscription::{Channel, Subscriptions};

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
    let msg = msg.ok_or(Fault::Missing("msg"))?;
    Ok(match msg.as_str() {
        "connected" => Control::Connected,
        "authenticated" => Control::Authenticated,
        _ => Control::OtherSuccess(msg),
    })
}

/// An error, after its `T`; the text may be missing, the code not.
pub(super) fn error<'a, R: Reader<'a>>(reader: &mut R, items: R::Items) -> Result<Control, Fault> {
    let (mut code, mut msg) = (None, String::new());
    each_field(reader, items, |reader, key| {
        match key {
            key::CODE => code = Some(u16::try_from(reader.whole()?).map_err(|_| Fault::NumberRange)?),
            key::MSG => msg = reader.text()?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(Control::Error { code: code.ok_or(Fault::Missing("code"))?, msg })
}

/// An acknowledgement, after its `T`; channels that are missing, null or empty are all empty.
pub(super) fn subscription<'a, R: Reader<'a>>(reader: &mut R, items: R::Items) -> Result<Control, Fault> {
    let mut subscriptions = Subscriptions::default();
    each_field(reader, items, |reader, key| {
        let known = Channel::ALL.into_iter().find(|channel| key::Key::new(channel.as_str()) == key);
        let Some(channel) = known else { return reader.skip() };
        each_item(reader, |reader| {
            subscriptions.insert(channel, reader.text()?);
            Ok(())
        })
    })?;
    Ok(Control::Subscription(subscriptions))
}
