//! The answers that targets can ask for by status and variant (docs/simulator.md has the table).

use serde_json::json;

use super::{BAD_TOKEN, Body, NO_CREDENTIAL, Problem, RetryAfter, apns_error, bad_request, error_info, fcm, google};
use crate::simulator::fcm::form::Violation;

/// The codes of all answers that a token can ask for: status and variant.
pub const CODES: &[(u16, u8)] = &[
    (400, 0),
    (400, 1),
    (400, 2),
    (400, 3),
    (400, 4),
    (400, 5),
    (400, 6),
    (401, 0),
    (401, 1),
    (401, 2),
    (403, 0),
    (403, 1),
    (403, 2),
    (404, 0),
    (404, 1),
    (404, 2),
    (404, 3),
    (429, 0),
    (429, 1),
    (429, 2),
    (429, 3),
    (429, 4),
    (429, 5),
    (500, 0),
    (500, 1),
    (500, 2),
    (502, 0),
    (503, 0),
    (503, 1),
    (503, 2),
    (503, 3),
];

impl Problem {
    /// The answer that tokens call `variant` of `status`.
    pub fn numbered(status: u16, variant: u8, project: &str) -> Option<Problem> {
        match status {
            400 => Problem::of_the_request(variant),
            401 | 403 => Problem::of_permission(status, variant, project),
            404 => Problem::of_absence(variant),
            429 => Problem::of_quota(variant, project),
            _ => Problem::of_the_server(status, variant),
        }
    }

    fn of_the_request(variant: u8) -> Option<Problem> {
        let argument = "Request contains an invalid argument.";
        let token = Violation::new("message.token", "Invalid registration token");
        Some(match variant {
            0 => Problem::invalid_token(),
            1 => Problem::too_large(),
            2 => {
                let gone = apns_error(410, "Unregistered");
                fcm(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "APNs device token is disabled.", [gone])
            }
            3 => Problem::ill_formed(&[Violation::new(
                "message.data[0].value",
                "Invalid value at 'message.data[0].value' (TYPE_STRING), 1",
            )]),
            4 => Problem::invalid("message.android.restricted_package_name", argument),
            5 => {
                let mut other_order =
                    fcm(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", argument, [bad_request(&[token])]);
                if let Body::Error { details, .. } = &mut other_order.body {
                    details.reverse();
                }
                other_order
            }
            6 => fcm(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", BAD_TOKEN, []),
            _ => return None,
        })
    }

    fn of_permission(status: u16, variant: u8, project: &str) -> Option<Problem> {
        let third_party = |message: &'static str| {
            let apns = apns_error(403, "InvalidProviderToken");
            fcm(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", message, [apns])
        };
        Some(match (status, variant) {
            (401, 0) => Problem::unauthenticated("ACCESS_TOKEN_EXPIRED"),
            (401, 1) => third_party("Auth error from APNS or Web Push Service"),
            (401, 2) => third_party(NO_CREDENTIAL),
            (403, 0) => fcm(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch", []),
            (403, 1) => Problem::permission_denied(project),
            (403, 2) => {
                let text = format!(
                    "Firebase Cloud Messaging API has not been used in project {project} before or it is disabled. Enable it by \
                     visiting https://console.developers.google.com/apis/api/fcm.googleapis.com/overview?project={project} then retry."
                );
                let metadata = json!({ "service": "fcm.googleapis.com", "consumer": format!("projects/{project}") });
                google(403, "PERMISSION_DENIED", text, [error_info("SERVICE_DISABLED", &metadata)])
            }
            _ => return None,
        })
    }

    fn of_absence(variant: u8) -> Option<Problem> {
        let text = "Requested entity was not found.";
        let gone = apns_error(410, "Unregistered");
        Some(match variant {
            0 => fcm(404, "NOT_FOUND", "UNREGISTERED", text, []),
            1 => fcm(404, "NOT_FOUND", "UNREGISTERED", text, [gone]),
            2 => Problem::no_such_project(),
            3 => Problem::page(404),
            _ => return None,
        })
    }

    fn of_quota(variant: u8, project: &str) -> Option<Problem> {
        let device = fcm(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded for device message rate.", []);
        Some(match variant {
            0 => device,
            1 => device.after(1),
            2 => Problem::over_quota(project).after(1),
            3 => Problem::over_quota(project),
            4 => Problem { retry_after: Some(RetryAfter::Date(2)), ..Problem::over_quota(project) },
            5 => {
                // Seen of late in place of the above: firebase/firebase-admin-go issue 719.
                let text = format!(
                    "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of service \
                     'fcm.googleapis.com' for consumer 'project_number:{project}'."
                );
                let metadata = json!({
                    "service": "fcm.googleapis.com",
                    "consumer": format!("projects/{project}"),
                    "quota_metric": "fcm.googleapis.com/send_requests",
                    "quota_limit": "SendsPerMinutePerProject",
                    "quota_unit": "1/min/{project}",
                });
                google(429, "RESOURCE_EXHAUSTED", text, [error_info("RATE_LIMIT_EXCEEDED", &metadata)])
            }
            _ => return None,
        })
    }

    fn of_the_server(status: u16, variant: u8) -> Option<Problem> {
        let internal = "Internal error encountered.";
        let unavailable = fcm(503, "UNAVAILABLE", "UNAVAILABLE", "The service is currently unavailable.", []);
        Some(match (status, variant) {
            (500, 0) => fcm(500, "INTERNAL", "INTERNAL", internal, []),
            (500, 1) => google(500, "INTERNAL", internal, []),
            (500, 2) => Problem { status: 500, name: "500".into(), retry_after: None, body: Body::Empty },
            (502, 0) => Problem::page(502),
            (503, 0) => unavailable,
            (503, 1) => unavailable.after(1),
            (503, 2) => Problem::page(503),
            (503, 3) => Problem { retry_after: Some(RetryAfter::Date(2)), ..unavailable },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn every_answer_that_a_token_can_ask_for() {
        let mut seen = String::new();
        for (status, variant) in CODES.iter().copied() {
            let problem = Problem::numbered(status, variant, "p-1").expect("listed");
            assert_eq!(problem.status, status);
            let (response, body) = problem.written(1_700_000_000_000);
            let mut headers: Vec<_> =
                response.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
            headers.sort();
            writeln!(seen, "dead{variant:x}{status} counted as {}\n{headers:?}", problem.name).expect("a string");
            writeln!(seen, "{}", String::from_utf8_lossy(&body)).expect("a string");
        }
        insta::assert_snapshot!(seen);
        for status in [200, 301, 400, 401, 403, 404, 405, 429, 500, 502, 503] {
            let listed = CODES.iter().filter(|(listed, _)| *listed == status).count();
            assert!((listed as u8..=255).all(|variant| Problem::numbered(status, variant, "p").is_none()), "{status}");
        }
    }
}
