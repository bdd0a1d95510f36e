//! The connection's state against a peer that is written by hand, and against anything at all.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use proptest::prelude::*;
use tokio::time::Instant;

use super::decoder::{Decoder, MAX_LIST};
use super::encoder::Encoder;
use super::frame::{self, Broken, Code, HEAD, Head, MAX_FRAME};
use super::hpack::{TABLE, write_number};
use super::session::{Ended, Received, Session};
use crate::http2::MAX_ANSWER_BODY;

const READS: &[&str] = &["retry-after", "apns-id"];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let bytes = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(frame::SETTINGS, 0, 0, &bytes.collect::<Vec<u8>>())
}

/// Fields that are in no table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            write_number(&mut block, 0, 7, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(frame::HEADERS, flags | frame::END_HEADERS, stream, &block(fields))
}

fn answer(stream: u32, status: &str) -> Vec<u8> {
    headers(stream, frame::END_STREAM, &[(":status", status)])
}

/// A connection whose peer has said its SETTINGS; what we said until then is gone.
fn session(said: &[(u16, u32)]) -> Session {
    let mut session = Session::new(READS);
    say(&mut session, &settings(said)).unwrap();
    session.take_out(Vec::new());
    session
}

fn say(session: &mut Session, bytes: &[u8]) -> Result<(), Broken> {
    session.receive(bytes).map(|taken| assert_eq!(taken, bytes.len()))
}

fn request() -> Request<()> {
    Request::post("https://localhost/3/device/abc").body(()).unwrap()
}

fn begin(session: &mut Session, body: &'static [u8]) -> usize {
    session.begin(Instant::now(), request(), Bytes::from_static(body)).unwrap()
}

fn end(session: &mut Session, key: usize) -> Option<Result<Received, Ended>> {
    match session.poll_end(key, &Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

/// What leaves, frame by frame.
fn left(session: &mut Session) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let bytes = session.take_out(Vec::new());
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while let Some(head) = Head::read(rest) {
        frames.push((head.kind, head.flags, head.stream, rest[HEAD..HEAD + head.len].to_vec()));
        rest = &rest[HEAD + head.len..];
    }
    assert!(rest.is_empty());
    frames
}

/// Kinds, flags and streams alone.
fn heads(session: &mut Session) -> Vec<(u8, u8, u32)> {
    left(session).into_iter().map(|(kind, flags, stream, _)| (kind, flags, stream)).collect()
}

fn status(received: &Received) -> u16 {
    received.0.as_u16()
}

#[test]
fn a_connection_begins_with_its_preface_its_settings_and_a_wide_window() {
    let mut session = Session::new(READS);
    let bytes = session.take_out(Vec::new());
    let rest = bytes.strip_prefix(&frame::PREFACE[..]).unwrap();
    let head = Head::read(rest).unwrap();
    assert_eq!((head.kind, head.len), (frame::SETTINGS, 18));
    assert_eq!(rest[HEAD..HEAD + 6], [0, 2, 0, 0, 0, 0], "no pushed streams");
    assert_eq!(Head::read(&rest[HEAD + 18..]).unwrap().kind, frame::WINDOW_UPDATE);
    assert!(!session.is_open());
    say(&mut session, &settings(&[(3, 7)])).unwrap();
    assert_eq!((session.is_open(), session.limit()), (true, Some(7)));
    assert_eq!(heads(&mut session), [(frame::SETTINGS, frame::ACK, 0)]);
}

#[test]
fn a_request_is_bytes_at_once_and_its_answer_comes_whole() {
    let mut session = session(&[]);
    let key = begin(&mut session, b"{}");
    let sent = left(&mut session);
    assert_eq!((sent[0].0, sent[0].1, sent[0].2), (frame::HEADERS, frame::END_HEADERS, 1));
    assert_eq!(sent[1], (frame::DATA, frame::END_STREAM, 1, b"{}".to_vec()));
    assert!(end(&mut session, key).is_none());
    let fields = [(":status", "410"), ("apns-id", "id"), ("date", "now"), ("content-length", "8")];
    say(&mut session, &headers(1, 0, &fields)).unwrap();
    assert!(end(&mut session, key).is_none());
    say(&mut session, &frame(frame::DATA, frame::PADDED, 1, b"\x02half\0\0")).unwrap();
    say(&mut session, &frame(frame::DATA, frame::END_STREAM, 1, b"half")).unwrap();
    let received = end(&mut session, key).unwrap().unwrap();
    assert_eq!((status(&received), &received.2[..]), (410, &b"halfhalf"[..]));
    assert_eq!(
        received.1.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["apns-id"],
        "those that are read"
    );
    let next = begin(&mut session, b"");
    assert_eq!(heads(&mut session), [(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 3)]);
    say(&mut session, &answer(3, "200")).unwrap();
    assert_eq!(end(&mut session, next).unwrap().unwrap().2, "");
    assert_eq!((session.answers(), session.oldest()), (2, None));
}

#[test]
fn informational_answers_and_trailers_are_passed_over() {
    let mut session = session(&[]);
    let key = begin(&mut session, b"{}");
    say(&mut session, &headers(1, 0, &[(":status", "103"), ("link", "x")])).unwrap();
    say(&mut session, &headers(1, 0, &[(":status", "200")])).unwrap();
    say(&mut session, &frame(frame::DATA, 0, 1, b"body")).unwrap();
    say(&mut session, &headers(1, frame::END_STREAM, &[("grpc-status", "0")])).unwrap();
    let received = end(&mut session, key).unwrap().unwrap();
    assert_eq!((status(&received), &received.2[..]), (200, &b"body"[..]));
}

#[test]
fn what_is_no_answer_ends_its_stream_and_no_other() {
    let cases: &[&[Vec<u8>]] = &[
        &[frame(frame::DATA, 0, 1, b"x")],
        &[headers(1, frame::END_STREAM, &[("date", "now")])],
        &[headers(1, frame::END_STREAM, &[(":status", "2oo")])],
        &[headers(1, frame::END_STREAM, &[("date", "now"), (":status", "200")])],
        &[headers(1, frame::END_STREAM, &[(":status", "200"), (":status", "200")])],
        &[headers(1, frame::END_STREAM, &[(":status", "200"), (":path", "/")])],
        &[headers(1, frame::END_STREAM, &[(":status", "200"), ("Date", "now")])],
        &[headers(1, frame::END_STREAM, &[(":status", "200"), ("apns-id", "a\nb")])],
        &[headers(1, frame::END_STREAM, &[(":status", "200"), ("content-length", "1")])],
        &[headers(1, frame::END_STREAM, &[(":status", "200"), ("content-length", "many")])],
        &[headers(1, frame::END_STREAM, &[(":status", "100")])],
        &[headers(1, 0, &[(":status", "200")]), headers(1, 0, &[("date", "now")])],
        &[headers(1, 0, &[(":status", "200")]), headers(1, frame::END_STREAM, &[(":status", "200")])],
        &[headers(1, 0, &[(":status", "200"), ("content-length", "3")]), frame(frame::DATA, 1, 1, b"xx")],
        &[frame(frame::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])],
        &[frame(frame::WINDOW_UPDATE, 0, 1, &[0; 4])],
        // What is being answered is processed, whatever is said of it later.
        &[headers(1, 0, &[(":status", "103")]), frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, 7])],
        &[headers(1, 0, &[(":status", "200")]), frame(frame::RST_STREAM, 0, 1, &[0, 0, 0, 7])],
        &[
            headers(1, 0, &[(":status", "200"), ("content-length", "9")]),
            frame(frame::DATA, 0, 1, b"part"),
            frame(frame::RST_STREAM, 0, 1, &[0; 4]),
        ],
    ];
    for case in cases {
        let mut session = session(&[]);
        let (one, other) = (begin(&mut session, b"{}"), begin(&mut session, b"{}"));
        session.take_out(Vec::new());
        for bytes in *case {
            say(&mut session, bytes).unwrap();
        }
        let found = end(&mut session, one);
        assert!(matches!(found, Some(Err(Ended::Malformed(_)))), "{case:?}: {found:?}");
        say(&mut session, &answer(3, "200")).unwrap();
        assert!(end(&mut session, other).unwrap().is_ok());
    }
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let large = vec![0; MAX_FRAME + 1];
    let cases: &[(Code, Vec<u8>)] = &[
        (Code::FRAME_SIZE_ERROR, frame(frame::DATA, 0, 1, &large)),
        (Code::FRAME_SIZE_ERROR, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        (Code::PROTOCOL_ERROR, frame(frame::DATA, 0, 0, b"x")),
        (Code::PROTOCOL_ERROR, frame(frame::DATA, 0, 2, b"x")),
        (Code::PROTOCOL_ERROR, answer(3, "200")),
        (Code::PROTOCOL_ERROR, frame(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &[0, 0, 0, 2])),
        (Code::PROTOCOL_ERROR, frame(frame::CONTINUATION, frame::END_HEADERS, 1, &[])),
        (Code::PROTOCOL_ERROR, [frame(frame::HEADERS, 0, 1, &[]), frame(frame::PING, 0, 0, &[0; 8])].concat()),
        (Code::COMPRESSION_ERROR, frame(frame::HEADERS, frame::END_HEADERS, 1, &[0xff; 9])),
        (Code::COMPRESSION_ERROR, frame(frame::HEADERS, frame::END_HEADERS, 1, &[0x80])),
        (Code::COMPRESSION_ERROR, frame(frame::HEADERS, frame::END_HEADERS, 1, &[0xbe])),
        (Code::COMPRESSION_ERROR, frame(frame::HEADERS, frame::END_HEADERS, 1, &[0x88, 0x20])),
        (Code::FRAME_SIZE_ERROR, frame(frame::HEADERS, frame::END_HEADERS | frame::WITH_PRIORITY, 1, &[0; 4])),
        (Code::FRAME_SIZE_ERROR, frame(frame::PRIORITY, 0, 1, &[0; 4])),
        (Code::FRAME_SIZE_ERROR, frame(frame::RST_STREAM, 0, 1, &[0; 3])),
        (Code::PROTOCOL_ERROR, frame(frame::RST_STREAM, 0, 0, &[0; 4])),
        (Code::FRAME_SIZE_ERROR, frame(frame::SETTINGS, 0, 0, &[0; 5])),
        (Code::FRAME_SIZE_ERROR, frame(frame::SETTINGS, frame::ACK, 0, &[0; 6])),
        (Code::PROTOCOL_ERROR, frame(frame::SETTINGS, 0, 1, &[])),
        (Code::PROTOCOL_ERROR, settings(&[(2, 1)])),
        (Code::FLOW_CONTROL_ERROR, settings(&[(4, 1 << 31)])),
        (Code::PROTOCOL_ERROR, settings(&[(5, 100)])),
        (Code::PROTOCOL_ERROR, frame(frame::PING, 0, 1, &[0; 8])),
        (Code::FRAME_SIZE_ERROR, frame(frame::PING, 0, 0, &[0; 7])),
        (Code::FRAME_SIZE_ERROR, frame(frame::GOAWAY, 0, 0, &[0; 7])),
        (Code::PROTOCOL_ERROR, frame(frame::GOAWAY, 0, 1, &[0; 8])),
        (Code::FRAME_SIZE_ERROR, frame(frame::WINDOW_UPDATE, 0, 0, &[0; 3])),
        (Code::PROTOCOL_ERROR, frame(frame::WINDOW_UPDATE, 0, 0, &[0; 4])),
        (Code::FLOW_CONTROL_ERROR, frame(frame::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        (Code::ENHANCE_YOUR_CALM, frame(frame::PING, 0, 0, &[0; 8]).repeat(10_001)),
        (Code::ENHANCE_YOUR_CALM, endless_headers(&[])),
        (Code::ENHANCE_YOUR_CALM, endless_headers(&vec![b'x'; MAX_FRAME])),
    ];
    for (nth, (code, bytes)) in cases.iter().enumerate() {
        let mut session = session(&[]);
        let key = begin(&mut session, b"{}");
        session.take_out(Vec::new());
        let broken = session.receive(bytes).expect_err(&format!("case {nth}: {code}"));
        assert_eq!(broken.code, *code, "case {nth}: {broken}");
        session.take_out(Vec::new());
        session.say_goaway(Some(broken));
        assert_eq!(left(&mut session)[0].3[..8], [&[0; 4][..], &code.0.to_be_bytes()].concat());
        session.lose(&broken.to_string());
        assert!(matches!(end(&mut session, key), Some(Err(Ended::Lost { has_left: true, .. }))));
    }
}

fn endless_headers(payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(frame::HEADERS, 0, 1, &[]);
    bytes.extend(frame(frame::CONTINUATION, 0, 1, payload).repeat(8_000));
    bytes
}

#[test]
fn headers_in_many_frames_and_frames_of_no_known_kind_are_taken() {
    let mut session = session(&[]);
    let key = begin(&mut session, b"{}");
    let block = block(&[(":status", "200"), ("retry-after", "7")]);
    let (one, rest) = block.split_at(5);
    let (two, three) = rest.split_at(5);
    let parts = [frame(frame::HEADERS, frame::END_STREAM, 1, one), frame(frame::CONTINUATION, 0, 1, two)];
    say(&mut session, &frame(0xfe, 0xff, 77, b"what is this")).unwrap();
    say(&mut session, &[&parts.concat()[..], &frame(frame::CONTINUATION, frame::END_HEADERS, 1, three)].concat())
        .unwrap();
    let received = end(&mut session, key).unwrap().unwrap();
    assert_eq!(received.1["retry-after"], "7");
}

#[test]
fn a_list_of_headers_that_is_too_large_ends_its_stream_and_the_table_stays_right() {
    let mut session = session(&[]);
    let (one, other) = (begin(&mut session, b"{}"), begin(&mut session, b"{}"));
    // One byte for each field, each of them 42 bytes of a list.
    let mut block = vec![0x88];
    block.extend(vec![0x9f; MAX_LIST / 42 + 1]);
    block.extend([0x40, 11]);
    block.extend(b"retry-after\x017");
    say(&mut session, &frame(frame::HEADERS, 5, 1, &block)).unwrap();
    assert!(matches!(end(&mut session, one), Some(Err(Ended::Malformed(_)))));
    say(&mut session, &frame(frame::HEADERS, 5, 3, &[0x88, 0xbe])).unwrap();
    assert_eq!(end(&mut session, other).unwrap().unwrap().1["retry-after"], "7");
}

#[test]
fn of_a_long_body_no_more_is_taken_than_is_kept() {
    let mut session = session(&[]);
    let key = begin(&mut session, b"{}");
    session.take_out(Vec::new());
    say(&mut session, &headers(1, 0, &[(":status", "502")])).unwrap();
    for _ in 0..5 {
        say(&mut session, &frame(frame::DATA, 0, 1, &[b'x'; 16_000])).unwrap();
    }
    let received = end(&mut session, key).unwrap().unwrap();
    assert_eq!((status(&received), received.2.len()), (502, MAX_ANSWER_BODY));
    assert_eq!(left(&mut session), [(frame::RST_STREAM, 0, 1, Code::CANCEL.0.to_be_bytes().to_vec())]);
    for _ in 0..70 {
        say(&mut session, &frame(frame::DATA, 0, 1, &[b'x'; 16_000])).unwrap();
    }
    let granted = left(&mut session);
    assert_eq!(
        (granted[0].0, granted[0].2, granted.len()),
        (frame::WINDOW_UPDATE, 0, 1),
        "also for what nobody waits for"
    );
    assert!(u32::from_be_bytes(granted[0].3[..].try_into().unwrap()) >= 1 << 20);
}

#[test]
fn resets_are_told_apart() {
    let reset = |stream, code: Code| frame(frame::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    let mut session = session(&[]);
    let keys: Vec<usize> = (0..4).map(|_| begin(&mut session, b"{}")).collect();
    say(&mut session, &reset(1, Code::REFUSED_STREAM)).unwrap();
    say(&mut session, &[headers(3, 0, &[(":status", "400")]), reset(3, Code::NO_ERROR)].concat()).unwrap();
    say(&mut session, &[headers(5, 0, &[(":status", "400")]), reset(5, Code(2))].concat()).unwrap();
    say(&mut session, &reset(7, Code::NO_ERROR)).unwrap();
    assert!(matches!(end(&mut session, keys[0]), Some(Err(Ended::Reset(Code::REFUSED_STREAM)))));
    assert_eq!(status(&end(&mut session, keys[1]).unwrap().unwrap()), 400);
    assert!(matches!(end(&mut session, keys[2]), Some(Err(Ended::Malformed(_)))));
    assert!(matches!(end(&mut session, keys[3]), Some(Err(Ended::Reset(Code::NO_ERROR)))));
    say(
        &mut session,
        &[reset(1, Code(2)), answer(3, "200"), frame(frame::WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1])].concat(),
    )
    .unwrap();
}

#[test]
fn a_goaway_ends_what_is_above_it_and_a_second_one_may_say_less() {
    let goaway = |last: u32, said: &str| {
        frame(frame::GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &[0; 4], said.as_bytes()].concat())
    };
    let mut session = session(&[]);
    let keys: Vec<usize> = (0..3).map(|_| begin(&mut session, b"{}")).collect();
    say(&mut session, &goaway(3, r#"{"reason":"Shutdown"}"#)).unwrap();
    let Some(Err(Ended::GoAway(said))) = end(&mut session, keys[2]) else { panic!("it is above the last one") };
    assert_eq!(&*said, r#"goaway NO_ERROR {"reason":"Shutdown"}"#);
    assert!(end(&mut session, keys[1]).is_none());
    let next = session.begin(Instant::now(), request(), Bytes::new());
    assert!(matches!(next, Err(Ended::GoAway(_))));
    say(&mut session, &[headers(3, 0, &[(":status", "200")]), goaway(1, "\u{1}")].concat()).unwrap();
    assert!(matches!(end(&mut session, keys[1]), Some(Err(Ended::Malformed(_)))), "it was being answered");
    say(&mut session, &answer(1, "200")).unwrap();
    assert!(end(&mut session, keys[0]).unwrap().is_ok());
    assert_eq!(session.goaway().as_deref(), Some("goaway NO_ERROR"));
}

#[test]
fn bodies_wait_for_windows_and_go_on_in_their_order() {
    let window = |stream, more: u32| frame(frame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    let data = |session: &mut Session| -> Vec<(u32, usize, u8)> {
        let frames = left(session).into_iter().filter(|(kind, ..)| *kind == frame::DATA);
        frames.map(|(_, flags, stream, payload)| (stream, payload.len(), flags)).collect()
    };
    let mut session = session(&[(4, 100)]);
    let long: &'static [u8] = &[b'x'; 150];
    let (one, _) = (begin(&mut session, long), begin(&mut session, long));
    assert_eq!(data(&mut session), [(1, 100, 0), (3, 100, 0)]);
    say(&mut session, &window(3, 20)).unwrap();
    assert_eq!(data(&mut session), [(3, 20, 0)]);
    say(&mut session, &settings(&[(4, 130)])).unwrap();
    assert_eq!(data(&mut session), [(1, 30, 0), (3, 30, 1)]);
    say(&mut session, &settings(&[(4, 0)])).unwrap();
    say(&mut session, &window(1, 100)).unwrap();
    assert_eq!(data(&mut session), [], "its window was below nothing");
    say(&mut session, &window(1, 100)).unwrap();
    assert_eq!(data(&mut session), [(1, 20, 1)]);
    say(&mut session, &[answer(1, "200"), answer(3, "200"), settings(&[(4, 65_535)])].concat()).unwrap();
    assert!(end(&mut session, one).is_some());
    for _ in 0..2 {
        session.begin(Instant::now(), request(), vec![b'x'; 60_000].into()).unwrap();
    }
    let sent = data(&mut session);
    assert_eq!(sent.iter().map(|(_, len, _)| len).sum::<usize>(), 65_535 - 300, "the connection's window");
    assert_eq!(session.window(), 0);
    say(&mut session, &window(0, 54_765)).unwrap();
    assert_eq!(data(&mut session).last(), Some(&(7, 54_765 - 3 * MAX_FRAME, 1)));
}

#[test]
fn what_new_settings_let_go_comes_behind_their_acknowledgement() {
    let mut session = session(&[(4, 10)]);
    begin(&mut session, b"a body that is longer");
    session.take_out(Vec::new());
    say(&mut session, &settings(&[(4, 100)])).unwrap();
    let data = (frame::DATA, frame::END_STREAM, 1);
    assert_eq!(heads(&mut session), [(frame::SETTINGS, frame::ACK, 0), data]);
}

#[test]
fn an_answer_whose_frames_are_padding_ends() {
    let mut session = session(&[]);
    let key = begin(&mut session, b"{}");
    say(&mut session, &headers(1, 0, &[(":status", "200")])).unwrap();
    for _ in 0..256 {
        say(&mut session, &frame(frame::DATA, frame::PADDED, 1, &[&[254][..], &[0; 255]].concat())).unwrap();
    }
    assert_eq!(end(&mut session, key).unwrap().unwrap().2.len(), 256, "no more than we granted");
}

#[test]
fn an_answer_before_the_body_has_left_ends_the_body() {
    let mut session = session(&[(4, 10)]);
    let key = begin(&mut session, b"a body that is longer");
    session.take_out(Vec::new());
    say(&mut session, &answer(1, "413")).unwrap();
    assert_eq!(status(&end(&mut session, key).unwrap().unwrap()), 413);
    assert_eq!(heads(&mut session), [(frame::RST_STREAM, 0, 1)]);
    say(&mut session, &frame(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9])).unwrap();
    assert_eq!(heads(&mut session), []);
}

#[test]
fn what_was_handed_over_may_have_been_processed_and_the_rest_was_not() {
    let mut session = session(&[]);
    let one = begin(&mut session, b"{}");
    session.take_out(Vec::new());
    let other = begin(&mut session, b"{}");
    session.lose("gone");
    assert!(matches!(end(&mut session, one), Some(Err(Ended::Lost { has_left: true, .. }))));
    assert!(matches!(end(&mut session, other), Some(Err(Ended::Lost { has_left: false, .. }))));
    session.lose("again");
    match session.begin(Instant::now(), request(), Bytes::new()) {
        Err(Ended::Lost { why, has_left: false }) => assert_eq!(&*why, "gone"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_too_old_twice_is_reset_and_tells_whether_anything_was_answered_since_it_began() {
    let (mut session, now) = (session(&[]), Instant::now());
    let old = session.begin(now, request(), Bytes::new()).unwrap();
    let young = session.begin(now + Duration::from_secs(9), request(), Bytes::new()).unwrap();
    session.take_out(Vec::new());
    assert!(!session.expire(now.checked_sub(Duration::from_secs(1)).unwrap()));
    assert!(!session.expire(now), "found once");
    assert!(end(&mut session, old).is_none());
    assert!(session.expire(now));
    assert!(matches!(end(&mut session, old), Some(Err(Ended::Expired))));
    assert_eq!(left(&mut session), [(frame::RST_STREAM, 0, 1, Code::CANCEL.0.to_be_bytes().to_vec())]);
    assert_eq!(session.oldest(), Some(now + Duration::from_secs(9)));
    say(&mut session, &answer(1, "200")).unwrap();
    assert_eq!(session.answers(), 1, "too late, and an answer all the same");
    let third = session.begin(now, request(), Bytes::new()).unwrap();
    say(&mut session, &answer(3, "200")).unwrap();
    assert!(end(&mut session, young).is_some());
    assert!(!session.expire(now) && !session.expire(now), "others are answered");
    assert!(end(&mut session, third).is_some());
}

#[test]
fn who_waits_no_more_resets_and_the_limit_counts_what_is_open() {
    let mut session = session(&[(3, 2)]);
    let (one, two) = (begin(&mut session, b"{}"), begin(&mut session, b"{}"));
    assert!(matches!(session.begin(Instant::now(), request(), Bytes::new()), Err(Ended::Crowded)));
    session.take_out(Vec::new());
    session.remove(one);
    assert_eq!(heads(&mut session), [(frame::RST_STREAM, 0, 1)]);
    say(&mut session, &answer(3, "200")).unwrap();
    session.remove(two);
    assert_eq!(heads(&mut session), [], "it had ended");
    let (three, _) = (begin(&mut session, b"{}"), begin(&mut session, b"{}"));
    assert!(matches!(session.begin(Instant::now(), request(), Bytes::new()), Err(Ended::Crowded)));
    assert!(end(&mut session, three).is_none());
}

#[test]
fn a_head_that_is_longer_than_a_frame_leaves_in_several() {
    let mut session = session(&[]);
    let long = "x".repeat(2 * MAX_FRAME);
    let request = Request::post("https://localhost/").header("long", &long).body(()).unwrap();
    session.begin(Instant::now(), request, Bytes::new()).unwrap();
    let sent = left(&mut session);
    let found: Vec<_> = sent.iter().map(|(kind, flags, stream, _)| (*kind, *flags, *stream)).collect();
    let (head, more) = ((frame::HEADERS, frame::END_STREAM, 1), (frame::CONTINUATION, 0, 1));
    assert_eq!(found, [head, more, (frame::CONTINUATION, frame::END_HEADERS, 1)]);
    let block: Vec<u8> = sent.into_iter().flat_map(|(.., payload)| payload).collect();
    let fields = Decoder::new(&["long"]).decode(&block).unwrap();
    assert_eq!(fields.headers["long"], long);
}

#[test]
fn a_request_without_an_address_is_not_begun_and_leaves_nothing() {
    let mut session = session(&[]);
    let nowhere = Request::post("/3/device/abc").body(()).unwrap();
    let end = session.begin(Instant::now(), nowhere, Bytes::new());
    assert!(matches!(end, Err(Ended::Unsendable(_))));
    assert_eq!(heads(&mut session), []);
    begin(&mut session, b"");
    assert_eq!(heads(&mut session).len(), 1);
}

/// RFC 7541 C.5 and C.6: three answers through a table of 256 bytes, with and without Huffman's code.
#[test]
fn the_answers_of_rfc_7541_appendix_c() {
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    let coded = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(&["cache-control", "date", "location", "set-cookie", "content-encoding"]);
        decoder.decode(&[0x3f, 0xe1, 0x01]).unwrap();
        let fields = blocks.map(|block| decoder.decode(&hex(block)).unwrap());
        assert_eq!(fields.each_ref().map(|fields| fields.status), [Some(302), Some(307), Some(200)]);
        for fields in &fields {
            assert_eq!((&fields.headers["cache-control"], fields.wrong), (&HeaderValue::from_static("private"), None));
            assert_eq!(fields.headers["location"], "https://www.example.com");
        }
        assert_eq!(fields[1].headers["date"], "Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(fields[2].headers["date"], "Mon, 21 Oct 2013 20:13:22 GMT");
        assert_eq!(fields[2].headers["set-cookie"], "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        assert_eq!(fields[2].headers["content-encoding"], "gzip");
    }
}

fn encoded(encoder: &mut Encoder, request: Request<()>) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.encode(&request.into_parts().0, &mut block).unwrap();
    block
}

#[test]
fn what_is_the_same_is_said_once_and_what_is_new_each_time_pushes_nothing_out() {
    let push = |serial: u32| {
        let mut id = HeaderValue::from_str(&format!("{serial:036}")).unwrap();
        id.set_sensitive(true);
        let request = Request::post(format!("https://api.push.apple.com/3/device/{serial:064x}"));
        request.header("apns-topic", "com.example.app").header("apns-id", id).body(()).unwrap()
    };
    let mut encoder = Encoder::new();
    let first = encoded(&mut encoder, push(0)).len();
    let next: Vec<usize> = (1..500).map(|serial| encoded(&mut encoder, push(serial)).len()).collect();
    // Method, scheme, host and topic are a byte each; path and identity are said, the one with a name of a byte.
    let said = 4 + (1 + 1 + 74) + (1 + 8 + 1 + 36);
    assert!(first > said && next.iter().all(|len| *len == said), "{first}, {next:?}, {said}");
    let again =
        |encoder: &mut Encoder| encoded(encoder, Request::post("https://fcm/v1/projects/x").body(()).unwrap()).len();
    let lens: Vec<usize> = (0..4).map(|_| again(&mut encoder)).collect();
    assert_eq!(lens[2..], [4, 4], "a path that comes again is one of the table's: {lens:?}");
}

#[test]
fn no_white_space_leaves_around_a_value() {
    let request = Request::post("https://localhost/").header("b", " \t a b ").header("a", " ").body(()).unwrap();
    let fields = Decoder::new(&NAMES).decode(&encoded(&mut Encoder::new(), request)).unwrap();
    assert_eq!(
        (&fields.headers["b"], &fields.headers["a"]),
        (&HeaderValue::from_static("a b"), &HeaderValue::from_static(""))
    );
}

#[test]
fn a_table_of_another_size_is_told_of_and_kept_to() {
    let request = || Request::post("https://localhost/").header("a", "b").body(()).unwrap();
    let mut encoder = Encoder::new();
    encoded(&mut encoder, request());
    encoder.set_max(0);
    encoder.set_max(100);
    let block = encoded(&mut encoder, request());
    assert_eq!(block[..4], [0x20, 0x3f, 69, 0x83], "the smallest and the last");
    encoder.set_max(1 << 20);
    let block = encoded(&mut encoder, request());
    assert_eq!(block[..4], [0x3f, 0xe1, 0x1f, 0x83], "never more than is needed");
    encoder.set_max(TABLE);
    assert_eq!(encoded(&mut encoder, request())[0], 0x83, "nothing new");
}

const NAMES: [&str; 5] = ["a", "apns-topic", "authorization", "content-type", "b"];

prop_compose! {
    fn requests()(
        fields in prop::collection::vec((0..5usize, "([!-~]([ -~]{0,40}[!-~])?)?", prop::bool::weighted(0.2)), 0..6),
        host in "[a-c]{1,3}",
        path in "/[a-z]{0,3}",
        table in prop::option::weighted(0.2, 0usize..600),
    ) -> (Option<usize>, Request<()>) {
        let mut request = Request::post(format!("https://{host}{path}"));
        for (name, value, is_secret) in fields {
            let mut value = HeaderValue::from_str(&value).unwrap();
            value.set_sensitive(is_secret);
            request = request.header(NAMES[name], value);
        }
        (table, request.body(()).unwrap())
    }
}

proptest! {
    /// Our decoder drops names that are not read and refuses requests' own; the reference reads those in [`super::super::channel`].
    #[test]
    fn fields_come_back_through_any_table(requests in prop::collection::vec(requests(), 1..40)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(&NAMES));
        for (table, request) in requests {
            if let Some(table) = table {
                encoder.set_max(table);
            }
            let expected = request.headers().clone();
            let fields = decoder.decode(&encoded(&mut encoder, request)).unwrap();
            prop_assert_eq!(fields.headers, expected);
        }
    }

    /// Whatever comes: no panic, and the same end wherever it is cut.
    #[test]
    fn anything_may_come_and_be_cut_anywhere(
        frames in prop::collection::vec((0u8..11, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..30),
        cuts in prop::collection::vec(1usize..60, 1..20),
    ) {
        let mut bytes = settings(&[(3, 100)]);
        for (kind, flags, stream, payload, is_answer) in frames {
            let is_alone = [frame::SETTINGS, frame::PING, frame::GOAWAY].contains(&kind);
            let stream = if is_alone { 0 } else { stream };
            bytes.extend(if is_answer { answer(stream, "200") } else { frame(kind, flags, stream, &payload) });
        }
        let begun = || {
            let mut session = Session::new(READS);
            for _ in 0..4 {
                begin(&mut session, b"{}");
            }
            session
        };
        let (mut whole, mut cut) = (begun(), begun());
        let expected = whole.receive(&bytes).map(|_| ());
        let (mut held, mut rest, mut found) = (Vec::new(), &bytes[..], Ok(()));
        for cut_at in cuts.into_iter().cycle() {
            if rest.is_empty() || found.is_err() {
                break;
            }
            let (part, after) = rest.split_at(cut_at.min(rest.len()));
            held.extend(part);
            rest = after;
            match cut.receive(&held) {
                Ok(taken) => drop(held.drain(..taken)),
                Err(broken) => found = Err(broken),
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(cut.take_out(Vec::new()), whole.take_out(Vec::new()));
        for key in 0..4 {
            let (one, other) = (end(&mut whole, key), end(&mut cut, key));
            prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
    }
}
