//! Every reason that APNs answers with, and its status (Apple: *Handling notification responses from APNs*).

/// A reason of an error answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason {
    /// HTTP status.
    pub status: u16,
    /// The word in the answer's body.
    pub word: &'static str,
}

macro_rules! reasons {
    ($($status:literal { $($name:ident),* $(,)? })*) => {
        #[expect(missing_docs, reason = "the words are Apple's, documented there")]
        #[expect(non_upper_case_globals, reason = "the words are Apple's")]
        impl Reason {
            $($(pub const $name: Reason = Reason { status: $status, word: stringify!($name) };)*)*
            /// All of them, by status and in the order that device tokens number them (see [`super::convention`]).
            pub const ALL: &[Reason] = &[$($(Reason::$name),*),*];
        }
    };
}

reasons! {
    400 {
        BadDeviceToken, DeviceTokenNotForTopic, BadCollapseId, BadExpirationDate, BadMessageId, BadPriority, BadTopic,
        DuplicateHeaders, IdleTimeout, InvalidPushType, MissingDeviceToken, MissingTopic, PayloadEmpty, TopicDisallowed,
    }
    403 {
        InvalidProviderToken, ExpiredProviderToken, MissingProviderToken, BadCertificate, BadCertificateEnvironment,
        BadEnvironmentKeyIdInToken, Forbidden, UnrelatedKeyIdInToken,
    }
    404 { BadPath }
    405 { MethodNotAllowed }
    410 { Unregistered, ExpiredToken }
    413 { PayloadTooLarge }
    429 { TooManyRequests, TooManyProviderTokenUpdates }
    500 { InternalServerError }
    503 { ServiceUnavailable, Shutdown }
}

impl Reason {
    /// The reason that device tokens call `variant` of `status`.
    pub fn numbered(status: u16, variant: usize) -> Option<Reason> {
        Reason::ALL.iter().copied().filter(|reason| reason.status == status).nth(variant)
    }
}
