//! Connections and sessions: what CONNECT carries, per protocol version.

use dunlin_wire::{RetainHandling, Version};

use super::super::quantity::Period;
use super::super::schema::Group;
use super::super::template::{Template, Variable};
use super::{Findings, with_sample};
use crate::clock::SECOND_NS;

/// Checks what a group's CONNECT carries.
pub(super) fn check(findings: &mut Findings<'_>, at: usize, group: &Group) {
    check_whole_seconds(findings, at, "keep_alive", group.keep_alive, u64::from(u16::MAX));
    check_whole_seconds(findings, at, "session_expiry", group.session_expiry, u64::from(u32::MAX));
    if group.receive_maximum == 0 {
        findings.group(at, "receive_maximum", "0 is a protocol error; it must be 1 to 65535");
    }
    if group.protocol != Version::V5 {
        for (key, is_used) in version_5(group) {
            if is_used {
                findings.group(
                    at,
                    key,
                    "MQTT 5 has this, and the group speaks an older version; set protocol = \"5.0\"",
                );
            }
        }
        if group.password.is_some() && group.username.is_none() {
            findings.group(at, "password", "before MQTT 5 a password needs a username beside it");
        }
    }
    if let Some(will) = &group.will {
        check_whole_seconds(findings, at, "will", will.delay, u64::from(u32::MAX));
    }
    check_credentials(findings, at, group);
    check_jwt(findings, at, group);
}

/// What only MQTT 5 has, and whether the group asks for it.
fn version_5(group: &Group) -> [(&'static str, bool); 5] {
    let options = group.subscribe.iter().any(|subscription| {
        subscription.no_local
            || subscription.retain_as_published
            || subscription.retain_handling != RetainHandling::SendAtSubscribe
    });
    [
        ("session_expiry", group.session_expiry != Period::ZERO),
        ("receive_maximum", group.receive_maximum != u16::MAX),
        ("will", group.will.as_ref().is_some_and(|will| will.delay != Period::ZERO)),
        ("subscribe", options),
        ("publish", group.publish.iter().any(|publish| publish.message_expiry.is_some())),
    ]
}

pub(super) fn check_whole_seconds(
    findings: &mut Findings<'_>,
    at: usize,
    key: &str,
    period: Period,
    most: u64,
) {
    if !period.ns().is_multiple_of(SECOND_NS) {
        findings.group(
            at,
            key,
            format!("{period} is no whole number of seconds, and MQTT counts in seconds"),
        );
    } else if period.ns() / SECOND_NS > most {
        findings.group(at, key, format!("{period} is too long; at most {most}s can be sent"));
    }
}

fn check_credentials(findings: &mut Findings<'_>, at: usize, group: &Group) {
    let allowed = [
        Variable::Index,
        Variable::Group,
        Variable::ClientId,
        Variable::Run,
        Variable::Time,
        Variable::Rand,
        Variable::Data,
        Variable::Jwt,
    ];
    for (key, template) in [("username", &group.username), ("password", &group.password)] {
        if let Some(variable) = misplaced(template.as_ref(), &allowed) {
            findings.group(at, key, format!("{variable} has no value here"));
        }
    }
}

/// The first variable of a template that has no value in its place.
pub(super) fn misplaced(template: Option<&Template>, allowed: &[Variable]) -> Option<Variable> {
    template?.variables().find(|used| !allowed.contains(used))
}

fn check_jwt(findings: &mut Findings<'_>, at: usize, group: &Group) {
    let is_used =
        [&group.username, &group.password].into_iter().flatten().any(|template| template.uses(Variable::Jwt));
    let Some(jwt) = &group.jwt else {
        if is_used {
            findings.group(
                at,
                "jwt",
                "{jwt} is used, and nothing says how it is minted; write a [group.jwt]",
            );
        }
        return;
    };
    if !is_used {
        findings.group(at, "jwt", "nothing uses the token; write password = \"{jwt}\"");
    }
    let allowed = [
        Variable::Index,
        Variable::Group,
        Variable::ClientId,
        Variable::Run,
        Variable::Time,
        Variable::Rand,
        Variable::Data,
    ];
    if let Some(variable) = misplaced(Some(&jwt.claims), &allowed) {
        findings.group(at, "jwt", format!("{variable} has no value in claims"));
    }
    if jwt.minter.is_some()
        && let Err(what) = with_sample(findings.plan, group, 0, 0, |scope| jwt.mint(scope))
    {
        findings.group(at, "jwt", what);
    }
}
