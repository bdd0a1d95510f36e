//! Credentials of Google's, read and tried: service accounts, a user's own, the metadata server.
//!
//! Source: Google, Using OAuth 2.0 for server to server applications; Application Default Credentials.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use http::uri::Authority;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::config::Origin;
use crate::handlers::settings::authority_of;
use crate::reload::Print;

/// What an access token is asked for.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// Where Google exchanges refresh tokens of users.
const USERS_TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// The metadata server of Google's machines, unless `GCE_METADATA_HOST` names another.
const METADATA_HOST: &str = "169.254.169.254";
/// How far an assertion is dated back, seconds: a clock that is a little ahead is no reason to be refused.
const DATED_BACK: i64 = 10;
/// How long an assertion is good for, seconds: the most that Google takes.
const ASSERTION_LIFE: i64 = 3600;

/// Where access tokens come from.
#[derive(Debug)]
pub(super) enum Credentials {
    /// A service account's key.
    ServiceAccount(Box<ServiceAccount>),
    /// A person's `gcloud auth application-default login`, for development.
    User(User),
    /// The metadata server at this host, `host` or `host:port`.
    Metadata(String),
}

/// A service account and its key.
pub(super) struct ServiceAccount {
    email: String,
    key: EncodingKey,
    header: Header,
    /// `aud` of its assertions, and where they are sent.
    pub(super) token_uri: TokenUri,
    project: Option<String>,
}

/// A user's refresh token.
pub(super) struct User {
    form: String,
    pub(super) token_uri: TokenUri,
}

/// A token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenUri {
    /// As the credentials write it.
    pub(super) text: String,
    /// The same, parsed.
    pub(super) uri: Uri,
    /// Host and port.
    pub(super) authority: Authority,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type", default)]
    kind: String,
    project_id: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

/// Why credentials cannot be used: where they are, and what is wrong with them. Holds no secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// The file, or what stands for it.
    pub(super) place: String,
    /// What is wrong.
    pub(super) rule: String,
}

/// Credentials that were read, and the file that they were read from.
pub(super) type Found = (Credentials, Option<(PathBuf, Print)>);

/// Reads credentials.
pub(super) fn read(origin: &Origin) -> Result<Found, Unusable> {
    match origin {
        Origin::Text(text) => {
            let wrong = |rule| Unusable { place: "(its value)".into(), rule };
            if !text.trim_start().starts_with('{') {
                return Err(wrong(
                    "is not JSON: a path goes into gcm.firebaseCredentialsFile.<app>, here goes the file's text".into(),
                ));
            }
            Ok((parse(text).map_err(wrong)?, None))
        }
        Origin::File(path) => from_file(path.clone()),
        Origin::Default => {
            if let Some(path) = default_file() {
                from_file(path)
            } else {
                let host = std::env::var("GCE_METADATA_HOST").ok().filter(|host| !host.is_empty());
                Ok((Credentials::Metadata(host.unwrap_or_else(|| METADATA_HOST.into())), None))
            }
        }
    }
}

/// The file of Application Default Credentials: the environment's, else what `gcloud` wrote.
fn default_file() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = given("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(path);
    }
    let folder = given("CLOUDSDK_CONFIG").or_else(|| Some(given("HOME")?.join(".config/gcloud")))?;
    Some(folder.join("application_default_credentials.json")).filter(|path| path.is_file())
}

fn from_file(path: PathBuf) -> Result<Found, Unusable> {
    let wrong = |rule| Unusable { place: path.display().to_string(), rule };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let credentials = parse(&text).map_err(wrong)?;
    let print = Print::of(text.as_bytes());
    Ok((credentials, Some((path, print))))
}

/// Reads the JSON that Google hands out. Errors quote nothing of it.
pub(super) fn parse(text: &str) -> Result<Credentials, String> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        format!("is not the JSON of a service account: line {} column {}", error.line(), error.column())
    })?;
    match file.kind.as_str() {
        "service_account" => ServiceAccount::of(file).map(|account| Credentials::ServiceAccount(Box::new(account))),
        "authorized_user" => User::of(file).map(Credentials::User),
        "" => Err("has no type: it must be the JSON of a service account, as downloaded from Google".into()),
        _ => Err("is of another type than service_account and authorized_user, which this version cannot use".into()),
    }
}

impl ServiceAccount {
    fn of(file: File) -> Result<Self, String> {
        let email = file.client_email.ok_or("has no client_email")?;
        let pem = file.private_key.ok_or("has no private_key")?;
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|_| "has a private_key that is no RSA key in PEM (are its line ends \\n?)".to_owned())?;
        let header = Header { kid: file.private_key_id, ..Header::new(Algorithm::RS256) };
        let token_uri = TokenUri::of(&file.token_uri.ok_or("has no token_uri")?)?;
        let account = ServiceAccount { email, key, header, token_uri, project: file.project_id };
        // A key that cannot sign stops the start.
        account.assertion(0).map_err(|error| format!("has a private_key that cannot sign: {error}"))?;
        Ok(account)
    }

    /// The signed statement that is exchanged for an access token.
    pub(super) fn assertion(&self, now_s: i64) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = now_s - DATED_BACK;
        let claims =
            Claims { iss: &self.email, scope: SCOPE, aud: &self.token_uri.text, iat, exp: iat + ASSERTION_LIFE };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }
}

impl User {
    fn of(file: File) -> Result<Self, String> {
        let [id, secret, token] = [file.client_id, file.client_secret, file.refresh_token]
            .map(|field| field.ok_or("has no client_id, client_secret or refresh_token"));
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &id?),
            ("client_secret", &secret?),
            ("refresh_token", &token?),
        ];
        let token_uri = TokenUri::of(file.token_uri.as_deref().unwrap_or(USERS_TOKEN_URI))?;
        Ok(User { form: self::form(&form), token_uri })
    }

    /// The form that is exchanged for an access token.
    pub(super) fn form(&self) -> &str {
        &self.form
    }
}

impl TokenUri {
    fn of(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "has a token_uri that is no URL".to_owned())?;
        let authority = authority_of(&uri).ok_or("has a token_uri that is not https")?;
        Ok(TokenUri { text: text.to_owned(), uri, authority })
    }
}

impl Credentials {
    /// The project that the credentials belong to, when they say so.
    pub(super) fn project(&self) -> Option<&str> {
        match self {
            Credentials::ServiceAccount(account) => account.project.as_deref(),
            _ => None,
        }
    }

    /// Credentials of equal identity share their access token.
    pub(super) fn identity(&self) -> String {
        match self {
            Credentials::ServiceAccount(account) => {
                format!(
                    "{} {} {}",
                    account.email,
                    account.header.kid.as_deref().unwrap_or_default(),
                    account.token_uri.text
                )
            }
            Credentials::User(user) => user.form.clone(),
            Credentials::Metadata(host) => format!("metadata {host}"),
        }
    }
}

/// `application/x-www-form-urlencoded`.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in pairs {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.push_str(&percent_encode(value));
    }
    form
}

/// Everything but letters, digits and `-._~` in percent form.
pub(super) fn percent_encode(text: &str) -> String {
    percent_encoding::percent_encode(text.as_bytes(), UNRESERVED).to_string()
}

const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl fmt::Debug for ServiceAccount {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("email", &self.email).finish_non_exhaustive()
    }
}

impl fmt::Debug for User {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A key of 2048 bits, made once for all tests: making one takes a second.
    pub(in crate::handlers::gcm) fn key() -> &'static rcgen::KeyPair {
        static KEY: std::sync::LazyLock<rcgen::KeyPair> =
            std::sync::LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());
        &KEY
    }

    pub(in crate::handlers::gcm) fn account() -> serde_json::Value {
        json!({
            "type": "service_account", "project_id": "my-game", "private_key_id": "kid1",
            "private_key": key().serialize_pem(), "client_email": "push@my-game.iam.gserviceaccount.com",
            "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
        })
    }

    #[test]
    fn an_assertion_is_what_google_asks_for_dated_back_a_little() {
        let Credentials::ServiceAccount(account) = parse(&account().to_string()).unwrap() else {
            panic!("another kind")
        };
        let jwt = account.assertion(1_700_000_000).unwrap();
        let key = jsonwebtoken::DecodingKey::from_rsa_pem(key().public_key_pem().as_bytes()).unwrap();
        let mut rules = jsonwebtoken::Validation::new(Algorithm::RS256);
        rules.validate_exp = false;
        rules.set_audience(&["https://oauth2.googleapis.com/token"]);
        let decoded = jsonwebtoken::decode::<serde_json::Value>(&jwt, &key, &rules).unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some("kid1"));
        let claims = json!({
            "iss": "push@my-game.iam.gserviceaccount.com", "scope": SCOPE, "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_699_999_990, "exp": 1_700_003_590,
        });
        assert_eq!(decoded.claims, claims);
    }

    #[test]
    fn what_cannot_be_used_says_why_and_quotes_no_secret() {
        let with = |name: &str, value: serde_json::Value| {
            let mut account = account();
            account[name] = value;
            parse(&account.to_string()).unwrap_err()
        };
        let errors = [
            parse("s3cret").unwrap_err(),
            parse("{}").unwrap_err(),
            parse(r#"{"type":"external_account"}"#).unwrap_err(),
            parse(r#"{"type":"service_account"}"#).unwrap_err(),
            with("private_key", json!("-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n")),
            with("private_key", json!(null)),
            with("token_uri", json!("http://localhost/token")),
            with("token_uri", json!("no url")),
            parse(r#"{"type":"authorized_user","client_id":"s3cret"}"#).unwrap_err(),
        ]
        .join("\n");
        assert!(!errors.contains("s3cret"), "{errors}");
        insta::assert_snapshot!(errors);
    }

    #[test]
    fn a_users_form_is_encoded_and_shown_to_nobody() {
        let user =
            json!({"type": "authorized_user", "client_id": "id", "client_secret": "a&b=c", "refresh_token": "1//x"});
        let Credentials::User(user) = parse(&user.to_string()).unwrap() else { panic!("another kind") };
        assert_eq!(user.form(), "grant_type=refresh_token&client_id=id&client_secret=a%26b%3Dc&refresh_token=1%2F%2Fx");
        assert_eq!(format!("{user:?}"), "User { .. }");
    }
}
