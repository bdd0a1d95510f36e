//! Every input shape of the original, its exact body; what is refused, and why. What holds for all inputs is shown in
//! `tests/it/gcm_schema.rs`.

use super::*;

const NOW: i64 = 1_700_000_000_000;

/// What came of a record, in words.
fn came_of(record: &str) -> String {
    match Fields::read(record.as_bytes()).map_err(NotSent::from).and_then(|fields| parse(&fields, NOW)) {
        Ok(push) => {
            let json: serde_json::Value = serde_json::from_slice(&push.body).expect("JSON");
            let token = json["message"]["token"].as_str().map(str::to_owned);
            assert_eq!(push.token.as_deref(), token.as_deref());
            String::from_utf8(push.body.to_vec()).unwrap()
        }
        Err(NotSent::Expired) => "expired".into(),
        Err(NotSent::Refused(refusal)) => {
            assert!(!refusal.description.contains("s3cret"), "{}", refusal.description);
            assert_eq!((refusal.status, refusal.invalid_token), (0, None));
            format!("{:?} {} {}: {}", refusal.class, refusal.key, refusal.reason, refusal.description)
        }
    }
}

fn lines(records: &[&str]) -> String {
    records.iter().map(|record| format!("{record}\n  = {}", came_of(record))).collect::<Vec<_>>().join("\n")
}

/// A message to a token, with these members besides.
fn of(members: &str) -> String {
    came_of(&format!(r#"{{"to":"t1"{members}}}"#))
}

#[test]
fn messages_of_the_original() {
    insta::assert_snapshot!(lines(&[
        // data only, notification only, both
        r#"{"to":"t1","data":{"a":"1","b":"é\n"}}"#,
        r#"{"to":"t1","notification":{"title":"T","body":"B"}}"#,
        r#"{"to":"t1","data":{"a":"1"},"notification":{"title":"T"},"collapse_key":"c","priority":"high","time_to_live":60}"#,
        // the same options without a notification
        r#"{"to":"t1","data":{"a":"1"},"collapse_key":"c","priority":"normal","time_to_live":0}"#,
        // keys in any case, and the ignored ones
        r#"{"TO":"t1","Message_ID":"m","message_type":"x","Content_Available":true,"delivery_receipt_requested":true,"delay_while_idle":false,"DATA":{"A":"1"}}"#,
        // every field of a notification
        r##"{"to":"t1","notification":{"Title":"T","body":"B","sound":"s","click_action":"c","body_loc_key":"bk","body_loc_args":"ba","title_loc_key":"tk","title_loc_args":"[\"x\",2]","image_url":"https://i","icon":"i","tag":"t","color":"#aB01ff","badge":"3","android_channel_id":"ch"}}"##,
        r#"{"to":"t1","notification":{"body_loc_key":"bk","body_loc_args":["x",1,{"y":null}],"title":"","image":"https://i"}}"#,
        r#"{"to":"t1","notification":{}}"#,
        // values that are no texts, and metadata
        r#"{"to":"t1","data":{"n":1.50,"t":true,"z":null,"o":{ "a":[1,"é"]},"s":""}}"#,
        r#"{"to":"t1","data":{"a":"own","jobId":null},"metadata":{"a":"not","jobId":"j","push":{"t":1}}}"#,
        r#"{"to":"t1","metadata":{"jobId":"j"}}"#,
        r#"{"to":"t1","data":{"a":"1","b":"2","a":"3"},"metadata":{}}"#,
        // Marathon's
        r#"{"to":"t1","data":{"alert":{"title":"T"},"m":{"k":1},"templateName":"tn"},"dry_run":false,"time_to_live":1700000600,"delay_while_idle":false,"message_id":"","metadata":{"userId":"u","pushTime":1700000000,"muid":null},"push_expiry":1700000600}"#,
        r#"{"to":"t1","dry_run":true}"#,
    ]));
}

#[test]
fn beyond_the_original() {
    insta::assert_snapshot!(lines(&[
        r#"{"to":"/topics/news","data":{"a":"1"}}"#,
        r#"{"topic":"news","data":{"a":"1"}}"#,
        r#"{"topic":"/topics/news"}"#,
        r#"{"condition":"'a' in topics && 'b' in topics"}"#,
        r#"{"message":{"token":"t1","fcmOptions":{"analyticsLabel":"l"},"android":{"ttl":"3.5s","directBootOk":true}}}"#,
        r#"{"message":{ "webpush" : {"notification":{"any":[1]}} },"to":"t1","dry_run":true,"metadata":{"jobId":"j"}}"#,
        r#"{"message":{},"topic":"news"}"#,
        r#"{"message":{"fid":"f1","new_field_of_google":{"x":1}}}"#,
        r#"{"message":{"topic":"news","apns":{"headers":{"apns-priority":"5"},"payload":{"aps":{"content-available":1}}}}}"#,
    ]));
}

#[test]
fn a_ttl_is_a_length_or_a_moment_and_an_expiry_shortens_it() {
    let ttl = |members: &str| {
        let came = of(members);
        came.split_once(r#""ttl":""#).map_or(came.clone(), |(_, rest)| rest.split('"').next().unwrap().to_owned())
    };
    for (members, expected) in [
        (r#","time_to_live":2419200"#, "2419200s"),
        (r#","time_to_live":"60""#, "60s"),
        (r#","time_to_live":1700000600"#, "600s"),
        (r#","time_to_live":1700000600500"#, "601s"),
        (r#","time_to_live":1800000000"#, "2419200s"),
        (r#","time_to_live":1699999999"#, "expired"),
        (r#","push_expiry":1700000600000"#, "600s"),
        (r#","push_expiry":1700000600,"time_to_live":1000"#, "600s"),
        (r#","push_expiry":1700000600,"time_to_live":100"#, "100s"),
        (r#","push_expiry":1700000000001"#, "1s"),
        (r#","push_expiry":1700000000000"#, "0s"),
        (r#","push_expiry":1699999999999"#, "expired"),
        (r#","push_expiry":1699999999,"time_to_live":1700000600"#, "expired"),
    ] {
        assert_eq!(ttl(members), expected, "{members}");
    }
    assert_eq!(of(r#","push_expiry":0"#), of(""));
    assert_eq!(of(r#","push_expiry":-5,"time_to_live":null"#), of(""));
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let long = "x".repeat(4097);
    let records = [
        "{}".to_owned(),
        r#"{"to":""}"#.into(),
        r#"{"to":5}"#.into(),
        r#"{"to":"s3cret token\n"}"#.into(),
        r#"{"to":"\ud800"}"#.into(),
        r#"{"to":"t1","topic":"x"}"#.into(),
        r#"{"topic":"s3cret topic"}"#.into(),
        r#"{"to":"t1","data":"s3cret"}"#.into(),
        r#"{"to":"t1","data":{"a":"\ud800"}}"#.into(),
        r#"{"to":"t1","data":{"from":"s3cret"}}"#.into(),
        r#"{"to":"t1","metadata":{"google.x":"s3cret"}}"#.into(),
        r#"{"to":"t1","metadata":5}"#.into(),
        r#"{"to":"t1","notification":"s3cret"}"#.into(),
        r#"{"to":"t1","notification":{"title":5}}"#.into(),
        r#"{"to":"t1","notification":{"color":"red"}}"#.into(),
        r#"{"to":"t1","notification":{"body_loc_args":{"s3cret":1}}}"#.into(),
        r#"{"to":"t1","priority":"s3cret"}"#.into(),
        r#"{"to":"t1","time_to_live":2419201}"#.into(),
        r#"{"to":"t1","time_to_live":-1}"#.into(),
        r#"{"to":"t1","time_to_live":"s3cret"}"#.into(),
        r#"{"to":"t1","collapse_key":5}"#.into(),
        r#"{"to":"t1","dry_run":"s3cret"}"#.into(),
        format!(r#"{{"to":"t1","data":{{"s3cret":"{long}"}}}}"#),
        format!(r#"{{"topic":"news","data":{{"s3cret":"{}"}}}}"#, &long[..2043]),
        r#"{"to":"t1","message":{},"data":{}}"#.into(),
        r#"{"message":"s3cret"}"#.into(),
        r#"{"message":{}}"#.into(),
        r#"{"message":{"token":"t1","topic":"x"}}"#.into(),
        r#"{"message":{"token":"t1"},"topic":"x"}"#.into(),
        r#"{"message":{"token":"t1","data":{"a":5}}}"#.into(),
        r#"{"message":{"token":"t1","data":{"gcm.notification.x":"5"}}}"#.into(),
        r#"{"message":{"token":"t1","android":{"priority":"s3cret"}}}"#.into(),
        r#"{"message":{"token":"t1","android":{"ttl":"60"}}}"#.into(),
        r#"{"message":{"token":"t1","android":{"notification":{"color":"red"}}}}"#.into(),
        r#"{"message":{"token":"t1","android":{"notification":{"bodyLocArgs":[1]}}}}"#.into(),
        r#"{"message":{"token":"t1","android":{"collapseKey":"a","collapse_key":"b"}}}"#.into(),
        r#"{"message":{"token":"t1","x":"\ud800"}}"#.into(),
        format!(r#"{{"message":{{"token":"t1","data":{{"s3cret":"{long}"}}}}}}"#),
    ];
    let came = records.iter().map(|record| format!("{}\n  = {}", &record[..record.len().min(90)], came_of(record)));
    insta::assert_snapshot!(came.collect::<Vec<_>>().join("\n"));
}

#[test]
fn only_googles_own_keys_are_refused_in_data() {
    for key in ["from", "message_type", "google.", "google.c.a", "gcm.notification.title"] {
        assert!(of(&format!(r#","data":{{"{key}":"1"}}"#)).contains("reserved-data-key"), "{key}");
    }
    for key in ["From", "google", "googlex", "gcm", "gcm.x", "gcm.notification", "to", "", "collapse_key", "a.from"] {
        assert!(of(&format!(r#","data":{{"{key}":"1"}}"#)).starts_with('{'), "{key}");
    }
}

#[test]
fn the_size_limit_is_exact_and_counts_keys_and_values_as_the_device_gets_them() {
    let sized = |bytes: usize| of(&format!(r#","data":{{"key":"\u00e9{}"}}"#, "x".repeat(bytes - 5)));
    assert!(sized(4096).starts_with('{'));
    assert!(sized(4097).contains("payload-too-large"));
    let with =
        |n: usize| of(&format!(r#","notification":{{"title":"{}","sound":"s"}},"data":{{"k":"v"}}"#, "x".repeat(n)));
    assert!(with(4096 - 13).starts_with('{'));
    assert!(with(4096 - 12).contains("payload-too-large"));
}

#[test]
fn hostile_input_is_quick_and_reaches_no_recursion() {
    let deep = format!("{}1{}", "{\"a\":".repeat(200_000), "}".repeat(200_000));
    assert!(of(&format!(r#","data":{{"a":{deep}}}"#)).contains("payload-too-large"));
    assert!(of(&format!(r#","x":{deep}"#)).starts_with('{'));
    assert!(of(&format!(r#","message":{{"x":{deep}}}"#)).contains("payload-too-large"));
    for key in ["data", "notification", "metadata", "to", "priority", "time_to_live", "dry_run", "collapse_key"] {
        let came = of(&format!(r#","{key}":[{deep}]"#));
        assert!(came.contains("wrong-type"), "{key}: {came}");
    }
    let many: Vec<String> = (0..100_000).map(|n| format!(r#""k{}":1"#, n % 7)).collect();
    assert!(of(&format!(r#","data":{{{}}}"#, many.join(","))).starts_with('{'));
}
