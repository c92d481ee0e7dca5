//! The shared token of a lab, and how both sides prove that they have it without saying it.
//!
//! Each side sends a random challenge; the answer is HMAC-SHA-256 over the role and both challenges under the token.
//! This keeps strangers from giving work to agents. It does not encrypt: a lab's network is a lab's own.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::LabError;

/// What coordinator and agents share; empty where none is needed. Its text is never shown.
#[derive(Clone, Default)]
pub(crate) struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// Who proves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Coordinator,
    Agent,
}

impl Token {
    /// Reads a token from a file; white space around it does not count.
    ///
    /// # Errors
    /// When the file can't be read or the token is too short to be a secret.
    #[expect(clippy::disallowed_methods, reason = "the generator's edge to files")]
    pub(crate) fn read(file: &Path) -> Result<Self, LabError> {
        let refuse = |why: String| LabError::Token { file: file.display().to_string(), why };
        let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
        let text = text.trim();
        if text.len() < TOKEN_BYTES_MIN {
            return Err(refuse(format!(
                "a token has at least {TOKEN_BYTES_MIN} characters; `head -c 32 /dev/urandom | base64` makes one"
            )));
        }
        Ok(Self(text.as_bytes().to_vec()))
    }

    /// The token of a lab that has none, which is allowed on the loopback device only.
    ///
    /// # Errors
    /// When `address` can be reached from other hosts.
    pub(crate) fn none(address: IpAddr) -> Result<Self, LabError> {
        if address.is_loopback() {
            return Ok(Self::default());
        }
        let why = "an agent runs whatever it is given, so beyond the loopback device it needs --token FILE on both sides";
        Err(LabError::Refused { who: address.to_string(), why: why.to_owned() })
    }

    /// The proof of `role` for two challenges.
    pub(super) fn proof(&self, role: Role, challenges: [&str; 2]) -> String {
        self.mac(role, challenges).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `proof` is that of `role`. Takes as long for a wrong proof as for a right one.
    pub(super) fn proves(&self, role: Role, challenges: [&str; 2], proof: &str) -> bool {
        let digits = |at: usize| proof.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..proof.len()).step_by(2).map(digits).collect();
        bytes.is_some_and(|bytes| self.mac(role, challenges).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, role: Role, challenges: [&str; 2]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        let role: &[u8] = match role {
            Role::Coordinator => b"coordinator",
            Role::Agent => b"agent",
        };
        for part in [role, challenges[0].as_bytes(), challenges[1].as_bytes()] {
            mac.update(part);
            mac.update(b"\n");
        }
        mac
    }
}

/// A challenge that nobody can foresee, as text.
///
/// # Errors
/// When the kernel gives no random bytes.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to files")]
pub(super) fn challenge() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_role_its_challenges_and_its_token_only() {
        let token = Token(b"0123456789abcdef".to_vec());
        let proof = token.proof(Role::Agent, ["x", "y"]);
        assert_eq!(proof.len(), 64);
        assert!(token.proves(Role::Agent, ["x", "y"], &proof));
        assert!(!token.proves(Role::Coordinator, ["x", "y"], &proof));
        assert!(!token.proves(Role::Agent, ["y", "x"], &proof));
        assert!(!Token(b"0123456789abcdeX".to_vec()).proves(Role::Agent, ["x", "y"], &proof));
        for wrong in ["", "zz", &proof[..62], "é"] {
            assert!(!token.proves(Role::Agent, ["x", "y"], wrong), "{wrong}");
        }
    }

    #[test]
    fn challenges_differ() {
        assert_ne!(challenge().unwrap(), challenge().unwrap());
    }

    #[test]
    fn without_a_token_only_the_loopback_device_will_do() {
        assert!(Token::none([127, 0, 0, 9].into()).is_ok());
        assert!(Token::none([0, 0, 0, 0].into()).unwrap_err().to_string().contains("--token"));
    }

    #[test]
    fn a_token_is_not_printed() {
        assert!(!format!("{:?}", Token(b"geheim".to_vec())).contains("geheim"));
    }
}
