//! Parses AdmissionReview requests and writes the replies.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::sync::LazyLock;

use base64::Engine as _;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use base64::engine::general_purpose::STANDARD as BASE64;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use base64::engine::{general_purpose::PAD, simd::Simd};
use bumpalo::Bump;

use crate::json::{self, Json, Shape};
use crate::k8s::labels::LAST_APPLIED;
use crate::k8s::patch::{self, Operation};

/// The parts of a review that stay raw: a third to a half of its bytes, which most requests never need.
static SHAPE: Shape = Shape::But(&[(
    "request",
    Shape::But(&[("object", Shape::But(POD)), ("oldObject", Shape::Skip), ("options", Shape::Skip)]),
)]);

const POD: &[(&str, Shape)] = &[
    (
        "metadata",
        Shape::But(&[
            ("managedFields", Shape::Each(&Shape::But(&[("fieldsV1", Shape::Skip)]))),
            ("annotations", Shape::But(&[(LAST_APPLIED, Shape::Skip)])),
        ]),
    ),
    ("spec", Shape::But(&[("containers", Shape::Each(&CONTAINER)), ("initContainers", Shape::Each(&CONTAINER))])),
    ("status", Shape::Skip),
];

/// A ClearML task's `args` are up to 28 KB of bootstrap.
static CONTAINER: Shape = Shape::But(&[("args", Shape::Skip), ("command", Shape::Skip)]);

/// An AdmissionReview request.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// the request's id, copied to the reply
    pub uid: &'a str,
    /// `request.kind.kind`
    pub kind: &'a str,
    /// true if `request.kind` is core/v1
    pub is_core: bool,
    /// `CREATE`, …
    pub operation: &'a str,
    /// the subresource of `pods/exec` and others, else empty
    pub sub_resource: &'a str,
    /// the request's namespace: `metadata.namespace` may be absent
    pub namespace: &'a str,
    /// the requesting user
    pub user: Json<'a>,
    /// true for a dry run
    pub dry_run: bool,
    /// the object, `null` for a DELETE
    pub object: Json<'a>,
    /// length of the largest parsed object or list
    pub largest: usize,
}

impl<'a> Review<'a> {
    /// Parses a review from the bytes of a request.
    ///
    /// # Errors
    /// The bytes are not an AdmissionReview; the message never quotes them.
    pub fn parse(body: &'a [u8], arena: &'a Bump) -> Result<Self, String> {
        let text = std::str::from_utf8(body)
            .map_err(|error| format!("the body is not UTF-8 at byte {}", error.valid_up_to()))?;
        if text.trim().is_empty() {
            return Err("the body is empty; an AdmissionReview is expected".to_owned());
        }
        let (root, largest) =
            Json::parse_measured(text, &SHAPE, arena).map_err(|error| format!("the body is not JSON: {error}"))?;
        Self::from_json(root, largest)
    }

    fn from_json(root: Json<'a>, largest: usize) -> Result<Self, String> {
        let text = |value: Json<'a>, path: &[&str]| value.get_path(path).and_then(|value| value.as_str()).unwrap_or("");
        match (text(root, &["apiVersion"]), text(root, &["kind"])) {
            ("admission.k8s.io/v1", "AdmissionReview") => {}
            ("admission.k8s.io/v1beta1", "AdmissionReview") => {
                return Err("admission.k8s.io/v1beta1 is not supported; register the webhook with admissionReviewVersions: [v1]".to_owned());
            }
            _ => return Err("the body is not an AdmissionReview of admission.k8s.io/v1".to_owned()),
        }
        let request = root.get("request").filter(|request| matches!(request, Json::Object(_)));
        let Some(request) = request else {
            return Err("the AdmissionReview has no request".to_owned());
        };
        let uid = text(request, &["uid"]);
        if uid.is_empty() {
            return Err("the request has no uid (a non-empty string)".to_owned());
        }
        let object = request.get("object").unwrap_or(Json::Null);
        if !matches!(object, Json::Object(_) | Json::Null) {
            return Err(format!("request.object is {}, should be an object", object.kind()));
        }
        Ok(Self {
            uid,
            kind: text(request, &["kind", "kind"]),
            is_core: text(request, &["kind", "group"]).is_empty() && text(request, &["kind", "version"]) == "v1",
            operation: text(request, &["operation"]),
            sub_resource: text(request, &["subResource"]),
            namespace: text(request, &["namespace"]),
            user: request.get("userInfo").unwrap_or(Json::Null),
            dry_run: request.get("dryRun") == Some(Json::Bool(true)),
            object,
            largest,
        })
    }

    /// Returns the pod's name, or its `generateName` and `*`.
    pub fn object_name(&self) -> String {
        let metadata = |key| {
            self.object.get_path(&["metadata", key]).and_then(|name| name.as_str()).filter(|name| !name.is_empty())
        };
        match (metadata("name"), metadata("generateName")) {
            (Some(name), _) => truncate(name, MAX_NAME_BYTES).to_owned(),
            (None, Some(prefix)) => format!("{}*", truncate(prefix, MAX_NAME_BYTES)),
            (None, None) => String::new(),
        }
    }
}

/// Maximum length of a name in a log line, in bytes: Kubernetes allows 253, a request may have more.
const MAX_NAME_BYTES: usize = 253;

/// Truncates a text to `length` bytes, or to a few less at a character boundary.
pub fn truncate(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}

// === replies ===

/// Writes the reply that allows a pod unchanged.
pub fn allowed(uid: &str) -> Vec<u8> {
    reply(uid, true, 0).end()
}

/// Writes the reply that allows a pod with a patch. `applied` and `config` go to the audit log; they are equal in every
/// reinvocation, as the API server requires.
pub fn patched(uid: &str, operations: &[Operation<'_>], applied: &str, config: &str) -> Vec<u8> {
    let patch = patch::to_json(operations);
    let length = base64::encoded_len(patch.len(), true).unwrap_or_default();
    let mut reply = reply(uid, true, applied.len() + length);
    reply.text(r#","auditAnnotations":{"applied":"#, applied);
    reply.text(r#","config":"#, config);
    reply.0.push_str(r#"},"patchType":"JSONPatch","patch":""#);
    let mut body = reply.0.into_bytes();
    let begin = body.len();
    body.resize(begin + length, 0);
    let _ = BASE64.encode_slice(patch, &mut body[begin..]); // it fits: `length` is what it takes
    body.extend_from_slice(b"\"}}");
    body
}

/// Writes the reply that denies a pod.
pub fn denied(uid: &str, code: u16, reason: &str, message: &str) -> Vec<u8> {
    let mut reply = reply(uid, false, message.len());
    reply.0.push_str(r#","status":{"code":"#);
    reply.0.push_str(&code.to_string());
    reply.text(r#","reason":"#, reason);
    reply.text(r#","message":"#, message);
    reply.0.push('}');
    reply.end()
}

/// A reply, written by hand: it has few members, and serde would scan every byte of the patch.
struct Reply(String);

/// Begins a reply, with capacity for `more` bytes.
fn reply(uid: &str, allowed: bool, more: usize) -> Reply {
    let mut reply = Reply(String::with_capacity(more + 320));
    reply.text(r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"#, uid);
    reply.0.push_str(if allowed { r#","allowed":true"# } else { r#","allowed":false"# });
    reply
}

impl Reply {
    /// Appends a member's name, unescaped, and a text.
    fn text(&mut self, name: &str, text: &str) {
        self.0.push_str(name);
        json::write_text(text, &mut self.0);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push_str("}}");
        self.0.into_bytes()
    }
}

/// The encoder with the widest instructions of this machine.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &[u8]) -> String {
        Review::parse(body, &Bump::new()).err().unwrap_or_else(|| "parsed".to_owned())
    }

    #[test]
    fn an_invalid_review_is_described_in_one_sentence() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "the body is empty; an AdmissionReview is expected"),
            (b"\xff{}", "the body is not UTF-8 at byte 0"),
            (b"{\"a\":", "the body is not JSON: it ends too early at line 1 column 5"),
            (b"{\"a\":secret}", "the body is not JSON: syntax error at line 1 column 6"),
            (b"[]", "the body is not an AdmissionReview of admission.k8s.io/v1"),
            (br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#, "the AdmissionReview has no request"),
            (
                br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":7}}"#,
                "the request has no uid (a non-empty string)",
            ),
            (
                br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","object":[]}}"#,
                "request.object is a list, should be an object",
            ),
            (
                br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}"#,
                "admission.k8s.io/v1beta1 is not supported; register the webhook with admissionReviewVersions: [v1]",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(error(body), *expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn any_uid_is_copied_to_the_reply() {
        for uid in ["plain", "q\"uote\\", "\u{7}\u{1F600}"] {
            let reply: serde_json::Value = serde_json::from_slice(&denied(uid, 422, "Because", "no")).unwrap();
            assert_eq!(reply["response"]["uid"], uid);
            assert_eq!(reply["response"]["status"]["code"], 422);
        }
    }

    #[test]
    fn a_reply_has_both_patch_and_type_or_neither() {
        let with: serde_json::Value = serde_json::from_slice(&patched("u", &[], "base", "0")).unwrap();
        assert_eq!((&with["response"]["patchType"], &with["response"]["patch"]), (&"JSONPatch".into(), &"W10=".into()));
        let without: serde_json::Value = serde_json::from_slice(&allowed("u")).unwrap();
        assert_eq!(without["response"], serde_json::json!({"uid": "u", "allowed": true}));
    }
}
