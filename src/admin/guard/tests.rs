use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Guard, String> {
    Guard::from_config(&Config::from_pairs(pairs.iter().copied())).map_err(|error| error.to_string())
}

fn headers(authorization: Option<&str>) -> HeaderMap {
    authorization.map(|value| (header::AUTHORIZATION, value.parse().unwrap())).into_iter().collect()
}

fn status(guard: &Guard, authorization: Option<&str>) -> Option<u16> {
    guard.refusal(&headers(authorization)).map(|refusal| refusal.status().as_u16())
}

#[test]
fn only_the_token_opens() {
    let guard = read(&[("admin.token", "s3cret")]).unwrap();
    for right in ["Bearer s3cret", "bearer  s3cret"] {
        assert_eq!(status(&guard, Some(right)), None, "{right}");
    }
    for wrong in ["Bearer s3creT", "Bearer s3cre", "Bearer s3cret0", "Bearer", "s3cret", "Basic s3cret", ""] {
        assert_eq!(status(&guard, Some(wrong)), Some(401), "{wrong}");
    }
    assert_eq!(status(&guard, None), Some(401));
    let none = read(&[]).unwrap();
    assert_eq!((status(&none, None), status(&none, Some("Bearer "))), (Some(403), Some(403)));
    assert!(!format!("{guard:?}").contains("s3cret"));
}

#[test]
fn the_token_comes_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("token"), "s3cret\n").unwrap();
    std::fs::write(path("empty"), "\n").unwrap();
    assert_eq!(status(&read(&[("admin.tokenFile", &path("token"))]).unwrap(), Some("Bearer s3cret")), None);
    let wrong = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(wrong(&[("admin.tokenFile", &path("none"))]), @r#"admin.tokenFile: "FOLDER/none" cannot be read (No such file or directory (os error 2))"#);
    insta::assert_snapshot!(wrong(&[("admin.tokenFile", &path("empty"))]), @r#"admin.tokenFile: "FOLDER/empty" must hold a token of visible ASCII characters without spaces"#);
    insta::assert_snapshot!(wrong(&[("admin.token", "two words")]), @"admin.token: must hold a token of visible ASCII characters without spaces");
    insta::assert_snapshot!(wrong(&[("admin.token", "a"), ("admin.tokenFile", "b")]), @r#"admin.tokenFile: "b" cannot stand beside admin.token: unset one of them"#);
    insta::assert_snapshot!(wrong(&[("admin.protectReads", "true")]), @r#"admin.protectReads: "true" needs a token: set admin.token or admin.tokenFile"#);
}

#[test]
fn who_asks_is_an_address_and_a_name() {
    let who = |peer: Option<&str>, name: Option<&str>| {
        let mut request = Request::builder();
        if let Some(name) = name {
            request = request.header(OPERATOR, name);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(ConnectInfo(Peer(peer.parse().unwrap())));
        }
        Who::of(&mut parts).to_string()
    };
    assert_eq!(who(Some("10.0.0.1:99"), Some(" ann ")), "ann at 10.0.0.1:99");
    assert_eq!(who(Some("10.0.0.1:99"), Some(" ")), "10.0.0.1:99");
    assert_eq!(who(None, Some(&"x".repeat(500))), format!("{} at an unknown address", "x".repeat(LONGEST_OPERATOR)));
}
