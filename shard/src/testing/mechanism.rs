//! Hooks for tests that do as they are told and report what they saw.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::hooks::{
    AccessRequest, Answer, AuthOutcome, AuthRequest, Authenticator, Authorizer, Hooks, SessionEvent,
    SessionHook,
};
use crate::ids::Token;

/// The test's end of its hooks.
pub(crate) struct Script {
    auth: Sender<Answer<AuthOutcome>>,
    access: Sender<Answer<bool>>,
    log: Receiver<String>,
    tokens: Receiver<Token>,
}

/// A core's end: answers what was scripted, accepts and allows when nothing was.
struct Hook {
    auth: Receiver<Answer<AuthOutcome>>,
    access: Receiver<Answer<bool>>,
    log: Sender<String>,
    tokens: Sender<Token>,
}

impl Script {
    /// A script, and the hooks for it: an authenticator, and as asked an authorizer and a session hook.
    pub(crate) fn new(wants_authorizer: bool) -> (Self, Hooks) {
        let (auth, auth_end) = channel();
        let (access, access_end) = channel();
        let (log_end, log) = channel();
        let (tokens_end, tokens) = channel();
        let hook =
            |auth, access| Box::new(Hook { auth, access, log: log_end.clone(), tokens: tokens_end.clone() });
        let hooks = Hooks {
            authenticator: Some(hook(auth_end, channel().1)),
            authorizer: wants_authorizer.then(|| hook(channel().1, access_end) as Box<dyn Authorizer>),
            message: None,
            session: Some(hook(channel().1, channel().1)),
        };
        (Self { auth, access, log, tokens }, hooks)
    }

    /// The next question of authentication is answered so.
    pub(crate) fn auth(&self, answer: Answer<AuthOutcome>) {
        self.auth.send(answer).unwrap();
    }

    /// The next question of rights is answered so.
    pub(crate) fn access(&self, answer: Answer<bool>) {
        self.access.send(answer).unwrap();
    }

    /// What was asked and told since the test looked last.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// The token of the latest question.
    pub(crate) fn token(&self) -> Token {
        self.tokens.try_iter().last().expect("a question was asked")
    }
}

impl Hook {
    fn asked(&self, what: String, token: Token) {
        self.log.send(what).unwrap_or_default();
        self.tokens.send(token).unwrap_or_default();
    }

    fn next_auth(&self) -> Answer<AuthOutcome> {
        self.auth
            .try_recv()
            .unwrap_or_else(|_| Answer::Now(AuthOutcome::Accept(crate::hooks::Accepted::default())))
    }
}

impl Authenticator for Hook {
    fn begin(&mut self, request: &AuthRequest<'_>) -> Answer<AuthOutcome> {
        let data = request.data.map(String::from_utf8_lossy);
        self.asked(
            format!("begin {} {:?} {:?} {data:?}", request.client_id, request.username, request.method),
            request.token,
        );
        self.next_auth()
    }

    fn proceed(&mut self, request: &AuthRequest<'_>) -> Answer<AuthOutcome> {
        let data = request.data.map(String::from_utf8_lossy);
        self.asked(format!("proceed {} {data:?}", request.client_id), request.token);
        self.next_auth()
    }

    fn forget(&mut self, token: Token) {
        self.log.send(format!("forget {}", token.0)).unwrap_or_default();
    }
}

impl Authorizer for Hook {
    fn check(&mut self, request: &AccessRequest<'_>) -> Answer<bool> {
        self.asked(
            format!("check {} {:?} {}", request.client_id, request.access, request.topic),
            request.token,
        );
        self.access.try_recv().unwrap_or(Answer::Now(true))
    }
}

impl SessionHook for Hook {
    fn observe(&mut self, event: &SessionEvent<'_>) {
        let text = match event {
            SessionEvent::Connected { client_id, clean_start, keep_alive_seconds, .. } => {
                format!("connected {client_id} clean_start={clean_start} keep_alive={keep_alive_seconds}")
            }
            SessionEvent::Disconnected { client_id, reason, .. } => {
                format!("disconnected {client_id} {}", reason.name())
            }
            SessionEvent::Subscribed { client_id, filter, .. } => format!("subscribed {client_id} {filter}"),
            SessionEvent::Unsubscribed { client_id, filter } => format!("unsubscribed {client_id} {filter}"),
            SessionEvent::Ended { client_id } => format!("ended {client_id}"),
        };
        self.log.send(text).unwrap_or_default();
    }
}
