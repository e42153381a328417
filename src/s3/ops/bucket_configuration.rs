//! What a bucket without any configuration answers: clients ask for all of it, and take anything unexpected for a broken server.

use http::StatusCode;

use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::{Code, Failure};
use crate::s3::operation::Op;
use crate::s3::xml::Xml;

pub(crate) fn call(call: &mut Call) -> Answer {
    let none = |root: &str| {
        let mut xml = Xml::document();
        xml.root(root);
        xml.close(root);
        Ok(document(xml))
    };
    match call.op {
        Op::DeleteBucketConfiguration => Ok(empty(StatusCode::NO_CONTENT)),
        Op::GetBucketAccelerateConfiguration => none("AccelerateConfiguration"),
        Op::GetBucketLogging => none("BucketLoggingStatus"),
        Op::GetBucketNotificationConfiguration => none("NotificationConfiguration"),
        Op::GetBucketRequestPayment => {
            let mut xml = Xml::document();
            xml.root("RequestPaymentConfiguration");
            xml.text("Payer", "BucketOwner");
            xml.close("RequestPaymentConfiguration");
            Ok(document(xml))
        }
        Op::ListBucketConfigurations => {
            let root = [
                ("analytics", "ListBucketAnalyticsConfigurationResult"),
                ("inventory", "ListInventoryConfigurationsResult"),
                ("metrics", "ListMetricsConfigurationsResult"),
            ]
            .into_iter()
            .find(|(name, _)| call.query.has(name))
            .map_or("ListBucketIntelligentTieringConfigurationsOutput", |(_, root)| root);
            let mut xml = Xml::document();
            xml.root(root);
            xml.plain("IsTruncated", false);
            xml.close(root);
            Ok(document(xml))
        }
        Op::GetBucketConfiguration => Err(Code::NoSuchConfiguration.into()),
        Op::GetBucketReplication => Err(Code::ReplicationConfigurationNotFoundError.into()),
        Op::GetBucketWebsite => Err(Code::NoSuchWebsiteConfiguration.into()),
        _ => Err(Failure::not_implemented("This operation is not implemented.")),
    }
}
