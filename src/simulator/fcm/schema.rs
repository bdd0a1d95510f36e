//! The fields of `messages:send` as data (Google: API description `fcm.v1`, revision 20250228, and `fid`, added in 2026).
//! Names in snake case; camel case is read as well.

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A bool.
    Flag,
    /// A 32-bit integer, or its digits as a string.
    Whole,
    /// A number, or its digits as a string.
    Number,
    /// Seconds as a string: `3.5s`.
    Duration,
    /// RFC 3339.
    Timestamp,
    /// One of these words, in either case; the first is the type's name.
    Choice(&'static str, &'static [&'static str]),
    /// A map of strings to strings.
    TextMap,
    /// A list.
    List(&'static Kind),
    /// An object of these fields.
    Part(&'static Schema),
    /// Any object.
    Free,
}

/// An object's fields.
#[derive(Debug)]
pub struct Schema {
    /// The type's name below `google.firebase.fcm.v1.`.
    pub name: &'static str,
    /// Fields and what they may hold.
    pub fields: &'static [(&'static str, Kind)],
    /// Fields of which at most one may be given, and what Google calls the choice between them.
    pub one_of: Option<(&'static str, &'static [&'static str])>,
}

use Kind::{Choice, Duration, Flag, Free, List, Number, Part, Text, TextMap, Timestamp, Whole};

/// The body of `messages:send`.
pub static REQUEST: Schema = Schema {
    name: "SendMessageRequest",
    fields: &[("validate_only", Flag), ("message", Part(&MESSAGE))],
    one_of: None,
};

static MESSAGE: Schema = Schema {
    name: "Message",
    fields: &[
        ("name", Text),
        ("token", Text),
        ("topic", Text),
        ("condition", Text),
        ("fid", Text),
        ("data", TextMap),
        ("notification", Part(&NOTIFICATION)),
        ("android", Part(&ANDROID)),
        ("apns", Part(&APNS)),
        ("webpush", Part(&WEBPUSH)),
        ("fcm_options", Part(&FCM_OPTIONS)),
    ],
    one_of: Some(("target", &TARGETS)),
};

/// The fields that name whom a message is for.
pub const TARGETS: [&str; 4] = ["token", "topic", "condition", "fid"];

static NOTIFICATION: Schema =
    Schema { name: "Notification", fields: &[("title", Text), ("body", Text), ("image", Text)], one_of: None };

static FCM_OPTIONS: Schema = Schema { name: "FcmOptions", fields: &[("analytics_label", Text)], one_of: None };

static ANDROID: Schema = Schema {
    name: "AndroidConfig",
    fields: &[
        ("collapse_key", Text),
        ("priority", Choice("AndroidConfig.AndroidMessagePriority", &["NORMAL", "HIGH"])),
        ("ttl", Duration),
        ("restricted_package_name", Text),
        ("data", TextMap),
        ("notification", Part(&ANDROID_NOTIFICATION)),
        ("fcm_options", Part(&ANDROID_FCM_OPTIONS)),
        ("direct_boot_ok", Flag),
        ("bandwidth_constrained_ok", Flag),
        ("restricted_satellite_ok", Flag),
    ],
    one_of: None,
};

static ANDROID_FCM_OPTIONS: Schema =
    Schema { name: "AndroidFcmOptions", fields: &[("analytics_label", Text)], one_of: None };

static ANDROID_NOTIFICATION: Schema = Schema {
    name: "AndroidNotification",
    fields: &[
        ("title", Text),
        ("body", Text),
        ("icon", Text),
        ("color", Text),
        ("sound", Text),
        ("tag", Text),
        ("click_action", Text),
        ("body_loc_key", Text),
        ("body_loc_args", List(&Text)),
        ("title_loc_key", Text),
        ("title_loc_args", List(&Text)),
        ("channel_id", Text),
        ("ticker", Text),
        ("sticky", Flag),
        ("event_time", Timestamp),
        ("local_only", Flag),
        (
            "notification_priority",
            Choice(
                "AndroidNotification.NotificationPriority",
                &[
                    "PRIORITY_UNSPECIFIED",
                    "PRIORITY_MIN",
                    "PRIORITY_LOW",
                    "PRIORITY_DEFAULT",
                    "PRIORITY_HIGH",
                    "PRIORITY_MAX",
                ],
            ),
        ),
        ("default_sound", Flag),
        ("default_vibrate_timings", Flag),
        ("default_light_settings", Flag),
        ("vibrate_timings", List(&Duration)),
        (
            "visibility",
            Choice("AndroidNotification.Visibility", &["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"]),
        ),
        ("notification_count", Whole),
        ("light_settings", Part(&LIGHT_SETTINGS)),
        ("image", Text),
        ("bypass_proxy_notification", Flag),
        ("proxy", Choice("AndroidNotification.Proxy", &["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"])),
    ],
    one_of: None,
};

static LIGHT_SETTINGS: Schema = Schema {
    name: "LightSettings",
    fields: &[("color", Part(&COLOR)), ("light_on_duration", Duration), ("light_off_duration", Duration)],
    one_of: None,
};

static COLOR: Schema = Schema {
    name: "Color",
    fields: &[("red", Number), ("green", Number), ("blue", Number), ("alpha", Number)],
    one_of: None,
};

static APNS: Schema = Schema {
    name: "ApnsConfig",
    fields: &[
        ("headers", TextMap),
        ("payload", Free),
        ("fcm_options", Part(&APNS_FCM_OPTIONS)),
        ("live_activity_token", Text),
    ],
    one_of: None,
};

static APNS_FCM_OPTIONS: Schema =
    Schema { name: "ApnsFcmOptions", fields: &[("analytics_label", Text), ("image", Text)], one_of: None };

static WEBPUSH: Schema = Schema {
    name: "WebpushConfig",
    fields: &[
        ("headers", TextMap),
        ("data", TextMap),
        ("notification", Free),
        ("fcm_options", Part(&WEBPUSH_FCM_OPTIONS)),
    ],
    one_of: None,
};

static WEBPUSH_FCM_OPTIONS: Schema =
    Schema { name: "WebpushFcmOptions", fields: &[("link", Text), ("analytics_label", Text)], one_of: None };
