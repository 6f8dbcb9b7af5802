//! The protocol of one connection after the upgrade: who it is and what it has subscribed to.
//!
//! No sockets and no clock: a message goes in, a reply comes out, and the connection around it does the rest.

use std::sync::Arc;

use serde_json::Value;

use crate::config::{Account, Config, Profile};
use crate::control_message::{Reply, Request, parse};
use crate::endpoint::{Codec, Endpoint, Product};
use crate::fault::{FaultBoard, FaultKind, Stage};
use crate::journal::EventKind;
use crate::slots::{Seat, Slots};
use crate::subscription::Subscriptions;

/// The state of one session.
pub(crate) struct Session {
    pub(crate) endpoint: Endpoint,
    codec: Codec,
    seat: Option<Seat>,
    auth_tried: bool,
    subscriptions: Subscriptions,
}

/// What a message led to. Facts are to be recorded before the reply is sent.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Option<Reply>,
    pub(crate) facts: Vec<EventKind>,
}

impl Outcome {
    fn error(code: u16) -> Outcome {
        Outcome { reply: Some(Reply::Error(code)), facts: vec![EventKind::ErrorSent { code }] }
    }

    fn auth_refused(code: u16) -> Outcome {
        let mut outcome = Outcome::error(code);
        outcome.facts.insert(0, EventKind::AuthRefused { code });
        outcome
    }

    fn silence(fault: &FaultKind) -> Outcome {
        let fault = fault.name();
        Outcome { reply: None, facts: vec![EventKind::Fault { fault }] }
    }
}

/// What a session needs from the venue around it.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) slots: &'a Arc<Slots>,
    pub(crate) faults: &'a FaultBoard,
}

impl Session {
    pub(crate) fn new(endpoint: Endpoint, codec: Codec) -> Session {
        Session { endpoint, codec, seat: None, auth_tried: false, subscriptions: Subscriptions::default() }
    }

    /// The slot it holds, once it is authenticated.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// Gives the slot back, as the venue does with a peer that it has lost.
    pub(crate) fn leave_seat(&mut self) {
        self.seat = None;
    }

    /// Whether an auth message has come, which ends the auth deadline.
    pub(crate) fn auth_tried(&self) -> bool {
        self.auth_tried
    }

    pub(crate) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The state of the subscriptions as a JSON object.
    pub(crate) fn subscription_state(&self) -> Value {
        let lists = self.subscriptions.lists(self.endpoint.product, Profile::Observed);
        lists.into_iter().map(|(name, list)| (name.to_owned(), list)).collect()
    }

    /// Takes one message of the client.
    pub(crate) fn handle(&mut self, payload: &[u8], venue: &Surroundings<'_>) -> Outcome {
        let Some(message) = parse(payload, self.codec) else {
            return Outcome::error(400);
        };
        let request = Request::of(&message, self.endpoint.product);
        match request {
            Request::Auth { key, secret } => self.authenticate(&key, &secret, venue),
            Request::Invalid => Outcome::error(400),
            _ if self.seat.is_none() => Outcome::error(401),
            Request::OtherStream => Outcome::error(match venue.config.profile {
                Profile::Observed => 400,
                Profile::Documented => 410,
            }),
            Request::Subscribe(selection) => {
                let next = self.subscriptions.with(&selection, self.endpoint.product);
                self.subscribe(next, message, venue)
            }
            Request::Unsubscribe(selection) => {
                self.subscriptions = self.subscriptions.without(&selection, self.endpoint.product);
                let state = self.subscription_state();
                self.acknowledge(EventKind::Unsubscribe { request: message, state }, venue)
            }
        }
    }

    /// Authenticates by message or header. Any attempt ends the auth deadline: a refused client is kept.
    pub(crate) fn authenticate(&mut self, key: &str, secret: &str, venue: &Surroundings<'_>) -> Outcome {
        self.auth_tried = true;
        if self.seat.is_some() {
            return Outcome::error(403);
        }
        let path = Some(self.endpoint.path.as_str());
        let stalled = |k: &FaultKind| matches!(k, FaultKind::Stall { at: Stage::Auth });
        if let Some(fault) = venue.faults.take(path, stalled) {
            return Outcome::silence(&fault);
        }
        let refused = |k: &FaultKind| matches!(k, FaultKind::RefuseAuth { .. });
        if let Some(FaultKind::RefuseAuth { code }) = venue.faults.take(path, refused) {
            return Outcome::auth_refused(code);
        }
        if self.endpoint.product == Product::Options && self.codec == Codec::Json {
            return Outcome::auth_refused(412);
        }
        let Some(account) = accepted(key, secret, venue.config.account.as_ref()) else {
            return Outcome::auth_refused(402);
        };
        let plan = &venue.config.plan;
        if !self.endpoint.exists || plan.refused_feeds.contains(&self.endpoint.feed) {
            return Outcome::auth_refused(409);
        }
        let Some(seat) = venue.slots.take(account, &self.endpoint.path) else {
            return Outcome::auth_refused(406);
        };
        let account = seat.account().to_owned();
        self.seat = Some(seat);
        Outcome { reply: Some(Reply::Authenticated), facts: vec![EventKind::AuthOk { account }] }
    }

    fn subscribe(&mut self, next: Subscriptions, request: Value, venue: &Surroundings<'_>) -> Outcome {
        let path = Some(self.endpoint.path.as_str());
        let refused = |k: &FaultKind| matches!(k, FaultKind::RefuseSubscribe { .. });
        if let Some(FaultKind::RefuseSubscribe { code }) = venue.faults.take(path, refused) {
            return Outcome::error(code);
        }
        if let Some(code) = next.refusal(self.endpoint.product, &venue.config.plan) {
            return Outcome::error(code);
        }
        let stalled = |k: &FaultKind| matches!(k, FaultKind::Stall { at: Stage::Ack });
        if let Some(fault) = venue.faults.take(path, stalled) {
            return Outcome::silence(&fault);
        }
        self.subscriptions = next;
        let state = self.subscription_state();
        self.acknowledge(EventKind::Subscribe { request, state }, venue)
    }

    fn acknowledge(&self, fact: EventKind, venue: &Surroundings<'_>) -> Outcome {
        let lists = self.subscriptions.lists(self.endpoint.product, venue.config.profile);
        Outcome { reply: Some(Reply::Subscription(lists)), facts: vec![fact] }
    }
}

/// The account that these credentials open; tokens count as accounts of their own.
pub(crate) fn accepted<'a>(key: &'a str, secret: &'a str, account: Option<&'a Account>) -> Option<&'a str> {
    let token = matches!(key, "oauth" | "access_token");
    match account {
        _ if key.is_empty() || secret.is_empty() => None,
        Some(a) if token => (secret == a.secret).then_some(a.key.as_str()),
        Some(a) => (key == a.key && secret == a.secret).then_some(key),
        None => Some(key),
    }
}

/// A fault's name with its strike, for the log.
pub(crate) fn struck(fault: &FaultKind) -> EventKind {
    EventKind::Fault { fault: fault.name() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Plan;
    use serde_json::json;

    struct World {
        config: Config,
        slots: Arc<Slots>,
        faults: Arc<FaultBoard>,
    }

    impl World {
        fn new(config: Config) -> World {
            World {
                slots: Slots::new(config.plan.connections_per_endpoint),
                config,
                faults: FaultBoard::new(),
            }
        }

        fn tell(&self, session: &mut Session, message: Value) -> Option<Reply> {
            let venue = Surroundings { config: &self.config, slots: &self.slots, faults: &self.faults };
            session.handle(message.to_string().as_bytes(), &venue).reply
        }
    }

    fn session(path: &str) -> Session {
        Session::new(Endpoint::at(path).unwrap(), Codec::Json)
    }

    fn auth(key: &str, secret: &str) -> Value {
        json!({"action": "auth", "key": key, "secret": secret})
    }

    #[test]
    fn credentials_are_judged_and_a_second_auth_is_refused() {
        let account = Account { key: "k".into(), secret: "s".into() };
        let world = World::new(Config { account: Some(account), ..Config::default() });
        let mut client = session("/v2/iex");
        for wrong in [auth("k", "x"), auth("x", "s"), auth("", ""), json!({"action": "auth"})] {
            assert_eq!(world.tell(&mut client, wrong), Some(Reply::Error(402)));
        }
        assert_eq!(world.tell(&mut client, auth("oauth", "s")), Some(Reply::Authenticated));
        assert_eq!(world.tell(&mut client, auth("k", "s")), Some(Reply::Error(403)));
        drop(client);
        let mut client = session("/v2/iex");
        assert_eq!(world.tell(&mut client, auth("k", "s")), Some(Reply::Authenticated));
    }

    #[test]
    fn the_incumbent_wins_and_a_refused_client_may_try_again() {
        let world = World::new(Config::default());
        let (mut first, mut second) = (session("/v2/iex"), session("/v2/iex"));
        assert_eq!(world.tell(&mut first, auth("k", "s")), Some(Reply::Authenticated));
        assert_eq!(world.tell(&mut second, auth("k", "s")), Some(Reply::Error(406)));
        let subscribe = json!({"action": "subscribe", "trades": ["A"]});
        assert_eq!(world.tell(&mut second, subscribe.clone()), Some(Reply::Error(401)));
        drop(first);
        assert_eq!(world.tell(&mut second, auth("k", "s")), Some(Reply::Authenticated));
        assert!(matches!(world.tell(&mut second, subscribe), Some(Reply::Subscription(_))));
    }

    #[test]
    fn plans_and_feeds_refuse_with_409_and_json_options_with_412() {
        let world = World::new(Config { plan: Plan::basic(), ..Config::default() });
        for (path, code) in [("/v2/sip", 409), ("/v2/nonsense", 409), ("/v1beta1/indicative", 412)] {
            let reply = world.tell(&mut session(path), auth("k", "s"));
            assert_eq!(reply, Some(Reply::Error(code)), "{path}");
        }
    }

    #[test]
    fn a_refused_subscribe_leaves_the_state_as_it_was() {
        let world = World::new(Config { plan: Plan::basic(), ..Config::default() });
        let mut client = session("/v2/iex");
        world.tell(&mut client, auth("k", "s"));
        world.tell(&mut client, json!({"action": "subscribe", "quotes": ["A"]}));
        let many: Vec<String> = (0..30).map(|i| format!("S{i}")).collect();
        let reply = world.tell(&mut client, json!({"action": "subscribe", "trades": many}));
        assert_eq!(reply, Some(Reply::Error(405)));
        assert_eq!(client.subscription_state(), json!({"quotes": ["A"]}));
    }

    #[test]
    fn a_channel_of_another_stream_is_400_observed_and_410_documented() {
        for (profile, code) in [(Profile::Observed, 400), (Profile::Documented, 410)] {
            let world = World::new(Config { profile, ..Config::default() });
            let mut client = session("/v2/iex");
            world.tell(&mut client, auth("k", "s"));
            let reply = world.tell(&mut client, json!({"action": "subscribe", "news": ["A"]}));
            assert_eq!(reply, Some(Reply::Error(code)));
        }
    }
}
