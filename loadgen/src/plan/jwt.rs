//! Tokens: `{jwt}` in a user name or password, minted for each connection.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::quantity::Period;
use super::template::{Scope, Template};
use crate::clock::SECOND_NS;

/// How tokens are minted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// How they are signed: `"HS256"`, `"HS384"`, `"HS512"`, `"RS256"` or `"ES256"`.
    pub(crate) algorithm: JwtAlgorithm,
    /// The secret of HS256, HS384 and HS512, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// The private key of RS256 and ES256 (PEM), or the secret of HS256, HS384 and HS512 (its bytes as they are); the
    /// path is relative to the scenario file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<String>,
    /// The key's id (`kid`), for the token's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_id: Option<String>,
    /// The claims, a JSON object with variables; `iat` and `exp` are added unless they are there.
    #[serde(default = "claims")]
    pub(crate) claims: Template,
    /// How long a token is valid; a new one is minted for each connection.
    #[serde(default = "hour")]
    pub(crate) expires_in: Period,
    /// Signs, once the key is loaded.
    #[serde(skip)]
    pub(crate) minter: Option<Minter>,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JwtAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

/// A key that has been loaded.
#[derive(Clone)]
pub(crate) struct Minter {
    key: EncodingKey,
    header: Header,
}

impl Minter {
    /// Takes the key that `jwt` names; `file` is what its `key_file` holds.
    ///
    /// # Errors
    /// What is wrong with the key and what to do.
    pub(crate) fn new(jwt: &Jwt, file: Option<&[u8]>) -> Result<Self, String> {
        let pem = |kind: &str| {
            file.ok_or_else(|| {
                format!("jwt: this algorithm signs with a private key; write key_file = \"key.pem\" ({kind})")
            })
        };
        let unreadable = |error: jsonwebtoken::errors::Error| {
            format!("jwt: key_file is not a private key for this algorithm ({error}); it must be PEM")
        };
        let (algorithm, key) = match jwt.algorithm {
            JwtAlgorithm::HS256 => (Algorithm::HS256, secret(jwt, file)?),
            JwtAlgorithm::HS384 => (Algorithm::HS384, secret(jwt, file)?),
            JwtAlgorithm::HS512 => (Algorithm::HS512, secret(jwt, file)?),
            JwtAlgorithm::RS256 => {
                (Algorithm::RS256, EncodingKey::from_rsa_pem(pem("PKCS #1 or #8")?).map_err(unreadable)?)
            }
            JwtAlgorithm::ES256 => {
                (Algorithm::ES256, EncodingKey::from_ec_pem(pem("PKCS #8")?).map_err(unreadable)?)
            }
        };
        let mut header = Header::new(algorithm);
        header.kid.clone_from(&jwt.key_id);
        Ok(Self { key, header })
    }
}

fn secret(jwt: &Jwt, file: Option<&[u8]>) -> Result<EncodingKey, String> {
    match (&jwt.secret, file) {
        (Some(text), None) => Ok(EncodingKey::from_secret(text.as_bytes())),
        (None, Some(bytes)) => Ok(EncodingKey::from_secret(bytes)),
        (Some(_), Some(_)) => Err("jwt: secret and key_file exclude each other; leave one out".to_owned()),
        (None, None) => Err("jwt: this algorithm needs a secret, or a key_file that holds one".to_owned()),
    }
}

impl Jwt {
    /// Mints a token for the client of `scope`, valid from `scope.time_ms` on.
    ///
    /// Costs about 2 µs with HMAC, 100 µs with ES256 and over a millisecond with RS256: a storm of connections may then
    /// be bound by the generator.
    ///
    /// # Errors
    /// If the claims are no JSON object once they are rendered, or the key can't sign.
    pub(crate) fn mint(&self, scope: &mut Scope<'_>) -> Result<String, String> {
        let minter = self.minter.as_ref().ok_or("jwt: the key is not loaded")?;
        let text = self.claims.text(scope);
        let mut claims: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)
            .map_err(|error| format!("jwt: claims are not a JSON object ({error}): {text}"))?;
        let now = scope.time_ms / 1_000;
        claims.entry("iat").or_insert_with(|| now.into());
        claims.entry("exp").or_insert_with(|| (now + self.expires_in.ns() / SECOND_NS).into());
        jsonwebtoken::encode(&minter.header, &claims, &minter.key)
            .map_err(|error| format!("jwt: the key can't sign: {error}"))
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are not for logs.
        formatter.debug_struct("Minter").field("algorithm", &self.header.alg).finish_non_exhaustive()
    }
}

impl PartialEq for Minter {
    /// Keys come from the plan's other fields, so they never make two plans differ by themselves.
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header
    }
}

fn claims() -> Template {
    r#"{"sub": "{client_id}"}"#.parse().expect("a template known to be right")
}

const fn hour() -> Period {
    Period::from_seconds(3_600)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;
    use crate::dice::Dice;

    const RSA: &[u8] = include_bytes!("../../tests/keys/rsa.pem");
    const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/keys/rsa.pub.pem");
    const EC: &[u8] = include_bytes!("../../tests/keys/ec.pem");
    const EC_PUBLIC: &[u8] = include_bytes!("../../tests/keys/ec.pub.pem");

    fn minted(algorithm: &str, key: Option<&[u8]>) -> String {
        let text = format!(
            "algorithm = \"{algorithm}\"\nkey_id = \"k1\"\nclaims = '{{\"sub\": \"{{client_id}}\"}}'\n\
             expires_in = \"10m\"\n{}",
            if key.is_none() { "secret = \"hush\"" } else { "key_file = \"key\"" }
        );
        let mut jwt: Jwt = toml::from_str(&text).unwrap();
        jwt.minter = Some(Minter::new(&jwt, key).unwrap());
        let mut dice = Dice::new(1);
        let token = jwt.mint(&mut Scope {
            index: 0,
            n: 0,
            seq: 0,
            group: "g",
            client_id: "pump-7",
            run: 1,
            // Far enough in the future that the token is valid whenever this runs.
            time_ms: 4_000_000_000_000,
            row: None,
            jwt: "",
            dice: &mut dice,
        });
        token.unwrap()
    }

    #[test]
    fn every_algorithm_mints_tokens_that_verify() {
        let secret = || DecodingKey::from_secret(b"hush");
        for (name, algorithm, key, public) in [
            ("HS256", Algorithm::HS256, None, secret()),
            ("HS384", Algorithm::HS384, None, secret()),
            ("HS512", Algorithm::HS512, None, secret()),
            ("HS256", Algorithm::HS256, Some(b"hush".as_slice()), secret()),
            ("RS256", Algorithm::RS256, Some(RSA), DecodingKey::from_rsa_pem(RSA_PUBLIC).unwrap()),
            ("ES256", Algorithm::ES256, Some(EC), DecodingKey::from_ec_pem(EC_PUBLIC).unwrap()),
        ] {
            let token = minted(name, key);
            let read = decode::<serde_json::Value>(&token, &public, &Validation::new(algorithm)).unwrap();
            assert_eq!(read.header.kid.as_deref(), Some("k1"), "{name}");
            assert_eq!(read.claims["sub"], "pump-7");
            assert_eq!(read.claims["iat"], 4_000_000_000_u64);
            assert_eq!(read.claims["exp"], 4_000_000_600_u64);
            let other = DecodingKey::from_secret(b"other");
            if key.is_none() {
                assert!(decode::<serde_json::Value>(&token, &other, &Validation::new(algorithm)).is_err());
            }
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let jwt: Jwt = toml::from_str("algorithm = \"HS256\"\nsecret = \"hush\"").unwrap();
        let printed = format!("{:?}", Minter::new(&jwt, None).unwrap());
        assert!(printed.contains("HS256") && !printed.contains("hush"), "{printed}");
    }
}
