//! Lifecycle configurations as XML
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>), and the header that tells when an
//! object expires.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use sluice_provider::ObjectInfo;

use super::dates;
use super::error::{Code, Failure, Result};
use super::tagging;
use super::xml::{Element, Xml};
use crate::lifecycle::{
    Configuration, Expiration, Filter, FilterForm, Move, MoveAt, NoncurrentExpiration, NoncurrentMove, Rule, SETTING, Subject,
};
use crate::mounts::CLASSES;
use crate::namespaces::Namespace;
use crate::objects::attribute;

/// The most rules of a configuration.
const MAX_RULES: usize = 1000;
/// The longest `ID` of a rule in characters.
const MAX_ID: usize = 255;
/// The most noncurrent versions that a rule can keep.
const MAX_KEPT: u32 = 100;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The value of `x-amz-expiration` for something that expires.
fn expiration_header(at: SystemTime, rule: &str) -> Option<HeaderValue> {
    let id = percent_encoding::utf8_percent_encode(rule, tagging::KEPT_AS_IS);
    HeaderValue::from_str(&format!("expiry-date=\"{}\", rule-id=\"{id}\"", dates::http(at))).ok()
}

/// Tells in `x-amz-expiration` when the object expires, if a rule says so. Costs a look at a map where there are no rules.
pub(crate) fn tell_expiry(namespace: &Namespace, info: &ObjectInfo, headers: &mut HeaderMap) {
    let Some(configuration) = namespace.compiled(SETTING, Configuration::from_json) else { return };
    let tags = if configuration.looks_at_tags() { attribute::tags(&info.attributes) } else { Vec::new() };
    let subject = Subject { key: info.key.as_str(), size: info.size, modified: info.modified, tags: Some(&tags) };
    let header = configuration.expiry(&subject).and_then(|(at, rule)| expiration_header(at, rule));
    if let Some(value) = header {
        headers.insert("x-amz-expiration", value);
    }
}

/// Reads the document.
///
/// # Errors
/// `MalformedXML`, `InvalidArgument` and `InvalidRequest` as on S3.
pub(crate) fn from_xml(root: &Element) -> Result<Configuration> {
    let mut rules: Vec<Rule> = Vec::new();
    for child in &root.children {
        if child.name != "Rule" || rules.len() == MAX_RULES {
            return Err(Code::MalformedXML.into());
        }
        let rule = self::rule(child)?;
        if !rule.id.is_empty() && rules.iter().any(|other| other.id == rule.id) {
            let message = "Rule ID must be unique. Found same ID for more than one rule";
            return Err(Failure::argument("ID", rule.id, message));
        }
        rules.push(rule);
    }
    if rules.is_empty() {
        return Err(Code::MalformedXML.into());
    }
    // Every rule has a name in the end, so that headers, logs and plans can speak of it.
    for at in 0..rules.len() {
        if rules[at].id.is_empty() {
            let free = (at + 1..).map(|n| format!("rule-{n}")).find(|id| rules.iter().all(|rule| rule.id != *id));
            rules[at].id = free.unwrap_or_default();
        }
    }
    Ok(Configuration { rules })
}

fn rule(element: &Element) -> Result<Rule> {
    let (mut rule, mut status, mut filter) = (Rule::default(), None, None);
    for child in &element.children {
        let text = child.text.trim();
        match child.name.as_str() {
            "ID" if rule.id.is_empty() => {
                if text.chars().count() > MAX_ID {
                    return Err(Failure::argument("ID", text, "ID length should not exceed allowed limit of 255"));
                }
                text.clone_into(&mut rule.id);
            }
            "Status" if status.is_none() => {
                status = Some(match text {
                    "Enabled" => true,
                    "Disabled" => false,
                    _ => return Err(Code::MalformedXML.into()),
                });
            }
            "Filter" if filter.is_none() => filter = Some(self::filter(child)?),
            "Prefix" if filter.is_none() => {
                filter = Some(Filter { form: FilterForm::Prefix, prefix: Some(child.text.clone()), ..Filter::default() });
            }
            "Expiration" if rule.expiration.is_none() => rule.expiration = Some(expiration(child)?),
            "NoncurrentVersionExpiration" if rule.noncurrent.is_none() => rule.noncurrent = Some(noncurrent(child)?),
            "AbortIncompleteMultipartUpload" if rule.abort_uploads_after_days.is_none() => {
                rule.abort_uploads_after_days = Some(abort(child)?);
            }
            "Transition" => rule.transitions.push(transition(child)?),
            "NoncurrentVersionTransition" => rule.noncurrent_transitions.push(noncurrent_transition(child)?),
            _ => return Err(Code::MalformedXML.into()),
        }
    }
    rule.enabled = status.ok_or(Code::MalformedXML)?;
    rule.filter = filter.ok_or(Code::MalformedXML)?;
    checked(rule)
}

/// What the parts of a rule must be together.
fn checked(rule: Rule) -> Result<Rule> {
    let ends = rule.expiration.is_some() || rule.noncurrent.is_some() || rule.abort_uploads_after_days.is_some();
    if !ends && rule.transitions.is_empty() && rule.noncurrent_transitions.is_empty() {
        return Err(Failure::request("At least one action needs to be specified in a rule."));
    }
    check_transitions(&rule)?;
    let sized = rule.filter.larger_than.is_some() || rule.filter.smaller_than.is_some();
    let refused = |action: &str, with: &str| Err(Failure::request(format!("{action} cannot be specified with {with}.")));
    if rule.abort_uploads_after_days.is_some() {
        if !rule.filter.tags.is_empty() {
            return refused("AbortIncompleteMultipartUpload", "Tags");
        }
        if sized {
            return refused("AbortIncompleteMultipartUpload", "Object Size");
        }
    }
    if rule.expiration == Some(Expiration::DeleteMarkers) {
        if !rule.filter.tags.is_empty() {
            return refused("ExpiredObjectDeleteMarker", "Tags");
        }
        if sized {
            return refused("ExpiredObjectDeleteMarker", "Object Size");
        }
    }
    if let (Some(larger), Some(smaller)) = (rule.filter.larger_than, rule.filter.smaller_than)
        && smaller <= larger
    {
        return Err(Failure::request("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."));
    }
    Ok(rule)
}

fn filter(element: &Element) -> Result<Filter> {
    let mut filter = Filter::default();
    match &element.children[..] {
        [] if element.text.trim().is_empty() => {}
        [and] if and.name == "And" => {
            filter.form = FilterForm::And;
            for child in &and.children {
                condition(child, &mut filter)?;
            }
            let conditions = usize::from(filter.prefix.is_some())
                + usize::from(filter.larger_than.is_some())
                + usize::from(filter.smaller_than.is_some())
                + filter.tags.len();
            if conditions < 2 {
                return Err(Code::MalformedXML.into());
            }
        }
        [one] => condition(one, &mut filter)?,
        _ => return Err(Code::MalformedXML.into()),
    }
    Ok(filter)
}

fn condition(element: &Element, filter: &mut Filter) -> Result<()> {
    let bytes = || element.text.trim().parse().map_err(|_| Failure::new(Code::MalformedXML));
    match element.name.as_str() {
        "Prefix" if filter.prefix.is_none() => filter.prefix = Some(element.text.clone()),
        "Tag" => {
            let part = |name| element.text_of(name).ok_or(Code::MalformedXML);
            let tag = (part("Key")?.to_owned(), part("Value")?.to_owned());
            if element.children.len() != 2 {
                return Err(Code::MalformedXML.into());
            }
            if filter.tags.iter().any(|(name, _)| *name == tag.0) {
                return Err(Failure::request("Duplicate Tag Keys are not allowed."));
            }
            filter.tags.push(tag);
        }
        "ObjectSizeGreaterThan" if filter.larger_than.is_none() => filter.larger_than = Some(bytes()?),
        "ObjectSizeLessThan" if filter.smaller_than.is_none() => filter.smaller_than = Some(bytes()?),
        _ => return Err(Code::MalformedXML.into()),
    }
    Ok(())
}

/// The one child that there must be.
fn only(element: &Element) -> Result<&Element> {
    match &element.children[..] {
        [child] => Ok(child),
        _ => Err(Code::MalformedXML.into()),
    }
}

fn days(element: &Element, action: &str) -> Result<u32> {
    let text = element.text.trim();
    let days: i64 = text.parse().map_err(|_| Failure::new(Code::MalformedXML))?;
    u32::try_from(days).ok().filter(|days| *days > 0 && i32::try_from(*days).is_ok()).ok_or_else(|| {
        Failure::argument(
            element.name.clone(),
            text,
            format!("'{}' for {action} action must be a positive integer", element.name),
        )
    })
}

fn expiration(element: &Element) -> Result<Expiration> {
    let child = only(element)?;
    let text = child.text.trim();
    match child.name.as_str() {
        "Days" => Ok(Expiration::Days(days(child, "Expiration")?)),
        "Date" => Ok(Expiration::Date(midnight(text)?)),
        "ExpiredObjectDeleteMarker" if text == "true" => Ok(Expiration::DeleteMarkers),
        _ => Err(Code::MalformedXML.into()),
    }
}

/// A date, in seconds since 1970.
fn midnight(text: &str) -> Result<u64> {
    let date = dates::parse_any(text).ok_or(Code::MalformedXML)?;
    match date.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since.as_secs() % DAY == 0 && since.subsec_nanos() == 0 => Ok(since.as_secs()),
        _ => Err(Failure::argument("Date", text, "'Date' must be at midnight GMT")),
    }
}

/// What the transitions of a rule must be beside each other and beside its expiration.
fn check_transitions(rule: &Rule) -> Result<()> {
    let classes = [
        ("Transition", rule.transitions.iter().map(|to| &to.class).collect::<Vec<_>>()),
        ("NoncurrentVersionTransition", rule.noncurrent_transitions.iter().map(|to| &to.class).collect()),
    ];
    for (action, classes) in classes {
        if classes.iter().enumerate().any(|(at, class)| classes[..at].contains(class)) {
            return Err(Failure::request(format!("'StorageClass' must be different for '{action}' actions in same 'Rule'")));
        }
    }
    let days = |to: &Move| if let MoveAt::Days(days) = to.at { Some(days) } else { None };
    let by_days = rule.transitions.iter().filter_map(days).max();
    let by_date = rule.transitions.iter().any(|to| days(to).is_none());
    let mixed = |what: &str| Err(Failure::request(format!("Found mixed 'Date' and 'Days' based {what} in lifecycle rule")));
    if by_days.is_some() && by_date {
        return mixed("Transition actions");
    }
    match (rule.expiration, by_days) {
        (Some(Expiration::Date(_)), Some(_)) => return mixed("Expiration and Transition actions"),
        (Some(Expiration::Days(_)), None) if by_date => return mixed("Expiration and Transition actions"),
        (Some(Expiration::Days(end)), Some(moved)) if end <= moved => {
            let message = "'Days' in the Expiration action must be greater than 'Days' in the Transition action";
            return Err(Failure::argument("Days", end.to_string(), message));
        }
        _ => {}
    }
    let moved = rule.noncurrent_transitions.iter().map(|to| to.days).max();
    if let (Some(end), Some(moved)) = (rule.noncurrent, moved)
        && end.days <= moved
    {
        let message = "'NoncurrentDays' in the NoncurrentVersionExpiration action must be greater than 'NoncurrentDays' in the \
                       NoncurrentVersionTransition action";
        return Err(Failure::argument("NoncurrentDays", end.days.to_string(), message));
    }
    Ok(())
}

/// Days of a transition, which may be none.
fn transition_days(element: &Element, action: &str) -> Result<u32> {
    let text = element.text.trim();
    let days: i64 = text.parse().map_err(|_| Failure::new(Code::MalformedXML))?;
    u32::try_from(days).ok().filter(|days| i32::try_from(*days).is_ok()).ok_or_else(|| {
        Failure::argument(element.name.clone(), text, format!("'{}' for {action} action must be nonnegative", element.name))
    })
}

fn storage_class(text: &str) -> Result<String> {
    CLASSES.contains(&text).then(|| text.to_owned()).ok_or_else(|| Code::MalformedXML.into())
}

/// What is rarely read costs what 30 days cost, so that S3 moves nothing to these classes earlier.
fn check_age(days: u32, class: &str, (field, action): (&str, &str)) -> Result<()> {
    if days < 30 && matches!(class, "STANDARD_IA" | "ONEZONE_IA") {
        let message = format!("'{field}' in {action} action must be greater than or equal to 30 for storageClass '{class}'");
        return Err(Failure::argument(field.to_owned(), days.to_string(), message));
    }
    Ok(())
}

fn transition(element: &Element) -> Result<Move> {
    const ACTION: &str = "Transition";
    let (mut class, mut at) = (None, None);
    for child in &element.children {
        let text = child.text.trim();
        match child.name.as_str() {
            "Date" if at.is_none() => at = Some(MoveAt::Date(midnight(text)?)),
            "Days" if at.is_none() => at = Some(MoveAt::Days(transition_days(child, ACTION)?)),
            "StorageClass" if class.is_none() => class = Some(storage_class(text)?),
            _ => return Err(Code::MalformedXML.into()),
        }
    }
    let (class, at) = (class.ok_or(Code::MalformedXML)?, at.ok_or(Code::MalformedXML)?);
    if let MoveAt::Days(days) = at {
        check_age(days, &class, ("Days", ACTION))?;
    }
    Ok(Move { at, class })
}

fn noncurrent_transition(element: &Element) -> Result<NoncurrentMove> {
    const ACTION: &str = "NoncurrentVersionTransition";
    let (mut class, mut after, mut keep_newest) = (None, None, None);
    for child in &element.children {
        match child.name.as_str() {
            "NoncurrentDays" if after.is_none() => after = Some(transition_days(child, ACTION)?),
            "NewerNoncurrentVersions" if keep_newest.is_none() => keep_newest = Some(kept(child, ACTION)?),
            "StorageClass" if class.is_none() => class = Some(storage_class(child.text.trim())?),
            _ => return Err(Code::MalformedXML.into()),
        }
    }
    let (class, days) = (class.ok_or(Code::MalformedXML)?, after.ok_or(Code::MalformedXML)?);
    check_age(days, &class, ("NoncurrentDays", ACTION))?;
    Ok(NoncurrentMove { days, keep_newest, class })
}

/// How many noncurrent versions an action spares.
fn kept(element: &Element, action: &str) -> Result<u32> {
    let kept = days(element, action)?;
    if kept > MAX_KEPT {
        let message = format!("'NewerNoncurrentVersions' for {action} action must be between 1 and {MAX_KEPT}");
        return Err(Failure::argument(element.name.clone(), element.text.trim(), message));
    }
    Ok(kept)
}

fn noncurrent(element: &Element) -> Result<NoncurrentExpiration> {
    const ACTION: &str = "NoncurrentVersionExpiration";
    let (mut after, mut keep_newest) = (None, None);
    for child in &element.children {
        match child.name.as_str() {
            "NoncurrentDays" if after.is_none() => after = Some(days(child, ACTION)?),
            "NewerNoncurrentVersions" if keep_newest.is_none() => keep_newest = Some(kept(child, ACTION)?),
            _ => return Err(Code::MalformedXML.into()),
        }
    }
    Ok(NoncurrentExpiration { days: after.ok_or(Code::MalformedXML)?, keep_newest })
}

fn abort(element: &Element) -> Result<u32> {
    let child = only(element)?;
    if child.name != "DaysAfterInitiation" {
        return Err(Code::MalformedXML.into());
    }
    days(child, "AbortIncompleteMultipartUpload")
}

/// The document.
pub(crate) fn to_xml(configuration: &Configuration) -> Xml {
    let mut xml = Xml::document();
    xml.root("LifecycleConfiguration");
    for rule in &configuration.rules {
        xml.open("Rule");
        xml.text("ID", &rule.id);
        write_filter(&rule.filter, &mut xml);
        xml.text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
        if let Some(expiration) = rule.expiration {
            xml.open("Expiration");
            match expiration {
                Expiration::Days(days) => xml.plain("Days", days),
                Expiration::Date(seconds) => xml.text("Date", &dates::iso(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))),
                Expiration::DeleteMarkers => xml.plain("ExpiredObjectDeleteMarker", true),
            }
            xml.close("Expiration");
        }
        if let Some(noncurrent) = rule.noncurrent {
            xml.open("NoncurrentVersionExpiration");
            xml.plain("NoncurrentDays", noncurrent.days);
            if let Some(kept) = noncurrent.keep_newest {
                xml.plain("NewerNoncurrentVersions", kept);
            }
            xml.close("NoncurrentVersionExpiration");
        }
        for to in &rule.transitions {
            xml.open("Transition");
            match to.at {
                MoveAt::Days(days) => xml.plain("Days", days),
                MoveAt::Date(seconds) => xml.text("Date", &dates::iso(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))),
            }
            xml.text("StorageClass", &to.class);
            xml.close("Transition");
        }
        for to in &rule.noncurrent_transitions {
            xml.open("NoncurrentVersionTransition");
            xml.plain("NoncurrentDays", to.days);
            if let Some(kept) = to.keep_newest {
                xml.plain("NewerNoncurrentVersions", kept);
            }
            xml.text("StorageClass", &to.class);
            xml.close("NoncurrentVersionTransition");
        }
        if let Some(days) = rule.abort_uploads_after_days {
            xml.open("AbortIncompleteMultipartUpload");
            xml.plain("DaysAfterInitiation", days);
            xml.close("AbortIncompleteMultipartUpload");
        }
        xml.close("Rule");
    }
    xml.close("LifecycleConfiguration");
    xml
}

fn write_filter(filter: &Filter, xml: &mut Xml) {
    if filter.form == FilterForm::Prefix {
        xml.text("Prefix", filter.prefix.as_deref().unwrap_or(""));
        return;
    }
    xml.open("Filter");
    if filter.form == FilterForm::And {
        xml.open("And");
    }
    if let Some(prefix) = &filter.prefix {
        xml.text("Prefix", prefix);
    }
    for (name, value) in &filter.tags {
        xml.open("Tag");
        xml.text("Key", name);
        xml.text("Value", value);
        xml.close("Tag");
    }
    if let Some(bytes) = filter.larger_than {
        xml.plain("ObjectSizeGreaterThan", bytes);
    }
    if let Some(bytes) = filter.smaller_than {
        xml.plain("ObjectSizeLessThan", bytes);
    }
    if filter.form == FilterForm::And {
        xml.close("And");
    }
    xml.close("Filter");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::s3::xml::parse;

    fn read(rules: &str) -> Result<Configuration> {
        let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        from_xml(&parse(text.as_bytes(), "LifecycleConfiguration").unwrap())
    }

    fn code(rules: &str) -> &'static str {
        read(rules).unwrap_err().code().name()
    }

    const DAYS: &str = "<Expiration><Days>1</Days></Expiration>";

    #[test]
    fn what_was_put_is_shown() {
        let rules = [
            "<Rule><ID>a</ID><Prefix>x/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>",
            "<Rule><ID>b</ID><Filter></Filter><Status>Disabled</Status><Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration></Rule>",
            "<Rule><ID>m</ID><Filter></Filter><Status>Enabled</Status><Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition><Transition><Days>90</Days><StorageClass>GLACIER</StorageClass></Transition><NoncurrentVersionTransition><NoncurrentDays>0</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions><StorageClass>GLACIER_IR</StorageClass></NoncurrentVersionTransition></Rule>",
            "<Rule><ID>n</ID><Filter></Filter><Status>Enabled</Status><Transition><Date>2030-01-01T00:00:00.000Z</Date><StorageClass>DEEP_ARCHIVE</StorageClass></Transition></Rule>",
            "<Rule><ID>c</ID><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
             <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>\
             <Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>\
             <NewerNoncurrentVersions>4</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>",
            "<Rule><ID>d</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><Expiration>\
             <ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration><AbortIncompleteMultipartUpload>\
             <DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>",
        ]
        .concat();
        let configuration = read(&rules).unwrap();
        let shown = to_xml(&configuration).finish();
        assert!(shown.contains(&rules), "{shown}");
        let unnamed = format!("<Rule><Filter/><Status>Enabled</Status>{DAYS}</Rule>");
        let named = format!("<Rule><ID>rule-1</ID><Filter/><Status>Enabled</Status>{DAYS}</Rule>");
        let ids: Vec<_> = read(&[unnamed, named].concat()).unwrap().rules.into_iter().map(|rule| rule.id).collect();
        assert_eq!(ids, ["rule-2", "rule-1"]);
        assert_eq!(read(&format!("<Rule><Filter/><Status>Enabled</Status>{DAYS}</Rule>")).unwrap().rules[0].id, "rule-1");
    }

    #[test]
    fn what_s3_refuses_is_refused() {
        let rule = |inner: &str| format!("<Rule><ID>i</ID><Filter/><Status>Enabled</Status>{inner}</Rule>");
        let filtered =
            |filter: &str, action: &str| format!("<Rule><Filter>{filter}</Filter><Status>Enabled</Status>{action}</Rule>");
        for (rules, expected) in [
            (String::new(), "MalformedXML"),
            ("<Other/>".to_owned(), "MalformedXML"),
            (rule(""), "InvalidRequest"),
            (rule(DAYS).repeat(2), "InvalidArgument"),
            (format!("<Rule><Status>Enabled</Status>{DAYS}</Rule>"), "MalformedXML"),
            (format!("<Rule><Filter/>{DAYS}</Rule>"), "MalformedXML"),
            (format!("<Rule><Filter/><Status>enabled</Status>{DAYS}</Rule>"), "MalformedXML"),
            (format!("<Rule><ID>{}</ID><Filter/><Status>Enabled</Status>{DAYS}</Rule>", "i".repeat(256)), "InvalidArgument"),
            (rule("<Expiration><Days>0</Days></Expiration>"), "InvalidArgument"),
            (rule("<Expiration><Days>-1</Days></Expiration>"), "InvalidArgument"),
            (rule("<Expiration><Days>x</Days></Expiration>"), "MalformedXML"),
            (rule("<Expiration><Days>1</Days><Date>2030-01-01T00:00:00Z</Date></Expiration>"), "MalformedXML"),
            (rule("<Expiration><Date>2030-01-01T00:00:01Z</Date></Expiration>"), "InvalidArgument"),
            (rule("<Expiration><Date>20300101</Date></Expiration>"), "MalformedXML"),
            (
                rule(
                    "<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
                ),
                "MalformedXML",
            ),
            (
                rule(
                    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
                ),
                "InvalidArgument",
            ),
            (rule("<Transition><Days>-1</Days><StorageClass>GLACIER</StorageClass></Transition>"), "InvalidArgument"),
            (rule("<Transition><Days>29</Days><StorageClass>STANDARD_IA</StorageClass></Transition>"), "InvalidArgument"),
            (rule("<Transition><Days>1</Days></Transition>"), "MalformedXML"),
            (rule("<Transition><StorageClass>GLACIER</StorageClass></Transition>"), "MalformedXML"),
            (
                rule(
                    "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>\
                     <Transition><Days>2</Days><StorageClass>GLACIER</StorageClass></Transition>",
                ),
                "InvalidRequest",
            ),
            (
                rule(
                    "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>\
                     <Transition><Date>2030-01-01T00:00:00Z</Date><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>",
                ),
                "InvalidRequest",
            ),
            (
                rule(
                    "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition><Expiration><Days>1</Days></Expiration>",
                ),
                "InvalidArgument",
            ),
            (
                rule(
                    "<NoncurrentVersionTransition><NoncurrentDays>2</NoncurrentDays><StorageClass>GLACIER</StorageClass>\
                     </NoncurrentVersionTransition>\
                     <NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration>",
                ),
                "InvalidArgument",
            ),
            (rule("<Transition><Days>1</Days><StorageClass>WARM</StorageClass></Transition>"), "MalformedXML"),
            (
                rule("<Transition><Date>2030-01-01T01:00:00Z</Date><StorageClass>GLACIER</StorageClass></Transition>"),
                "InvalidArgument",
            ),
            (filtered("<Prefix>a</Prefix><Prefix>b</Prefix>", DAYS), "MalformedXML"),
            (filtered("<And><Prefix>a</Prefix></And>", DAYS), "MalformedXML"),
            (
                filtered(
                    "<And><ObjectSizeGreaterThan>9</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And>",
                    DAYS,
                ),
                "InvalidRequest",
            ),
            (
                filtered(
                    "<Tag><Key>a</Key><Value>b</Value></Tag>",
                    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
                ),
                "InvalidRequest",
            ),
            (
                filtered(
                    "<ObjectSizeLessThan>9</ObjectSizeLessThan>",
                    "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
                ),
                "InvalidRequest",
            ),
        ] {
            assert_eq!(code(&rules), expected, "{rules}");
        }
    }

    #[test]
    fn an_expiry_is_told_as_s3_tells_it() {
        let value = expiration_header(SystemTime::UNIX_EPOCH + Duration::from_secs(1_356_048_000), "picture deletion").unwrap();
        assert_eq!(value, "expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\", rule-id=\"picture%20deletion\"");
    }
}
