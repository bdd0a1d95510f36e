//! One event, one line: `time`, `level`, `msg` and fields, in the notation of logrus, text or JSON.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as lines; fields of the spans around an event are its fields too, the innermost goes first.
pub(super) struct Log<W> {
    pub(super) json: bool,
    pub(super) writer: W,
}

impl<S, W> Layer<S> for Log<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.0.extend(outer.0.clone());
            }
        }
        event.record(&mut fields);
        let line = fields.into_line(now(), *event.metadata().level(), self.json);
        // Nobody is left to tell when stderr is gone.
        let _ = self.writer.make_writer().write_all(line.as_bytes());
    }
}

fn now() -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

/// An event's fields by name; `message` is the text.
#[derive(Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    fn into_line(mut self, time: String, level: Level, json: bool) -> String {
        let message = self.0.remove("message").unwrap_or_else(|| "".into());
        if json {
            self.0.insert("time".into(), time.into());
            self.0.insert("level".into(), level_name(level).into());
            self.0.insert("msg".into(), message);
            return format!("{}\n", Value::Object(self.0));
        }
        let mut line = format!("time=\"{time}\" level={} msg=", level_name(level));
        push_text(&mut line, &message);
        for (name, value) in &self.0 {
            let _ = write!(line, " {name}=");
            push_text(&mut line, value);
        }
        line.push('\n');
        line
    }
}

/// As logrus quotes: only what is not a plain word.
fn push_text(line: &mut String, value: &Value) {
    let is_plain =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/@^+".contains(c));
    let _ = match value {
        Value::String(text) if is_plain(text) => line.write_str(text),
        other => write!(line, "{other}"),
    };
}

pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.insert(field.name().into(), value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = Log { json, writer: move || writer.clone() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            let _span = tracing::info_span!("partition", topic = "push-a", partition = 3, app = "outer").entered();
            tracing::warn!(app = %"game", error = ?Some("no\nway"), ok = true, share = 0.5, "a \"quoted\" text");
            tracing::error!(reason = "", "plain");
        });
        let text = String::from_utf8(sink.0.lock().clone()).unwrap();
        regex::Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").unwrap().replace_all(&text, "<time>").into_owned()
    }

    #[test]
    fn text() {
        insta::assert_snapshot!(logged(false), @r#"
time="<time>" level=warning msg="a \"quoted\" text" app=game error="Some(\"no\\nway\")" ok=true partition=3 share=0.5 topic=push-a
time="<time>" level=error msg=plain app=outer partition=3 reason="" topic=push-a
"#);
    }

    #[test]
    fn json() {
        insta::assert_snapshot!(logged(true), @r#"
{"app":"game","error":"Some(\"no\\nway\")","level":"warning","msg":"a \"quoted\" text","ok":true,"partition":3,"share":0.5,"time":"<time>","topic":"push-a"}
{"app":"outer","level":"error","msg":"plain","partition":3,"reason":"","time":"<time>","topic":"push-a"}
"#);
    }
}
