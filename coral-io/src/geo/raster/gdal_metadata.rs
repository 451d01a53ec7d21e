//! The XML in which GDAL keeps names and values inside a TIFF.

use std::collections::BTreeMap;

use coral_core::ClassId;

/// Names of the items that hold the name of a class, as band metadata: `CLASS_7`.
const CLASS_PREFIX: &str = "CLASS_";

/// What the tag `GDAL_METADATA` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GdalMetadata {
    /// Values of the whole file by name.
    pub(super) items: BTreeMap<String, String>,
    /// A description by band.
    pub(super) band_names: BTreeMap<usize, String>,
    /// The names of the classes of the first band.
    pub(super) class_names: BTreeMap<ClassId, String>,
}

impl GdalMetadata {
    /// Reads the XML; what is not understood is left out.
    pub(super) fn parse(xml: &str) -> Self {
        let mut metadata = Self::default();
        for element in xml.split("<Item ").skip(1) {
            let Some((attributes, rest)) = element.split_once('>') else { continue };
            // GDAL escapes texts twice, and names once.
            let text = unescape(&unescape(rest.split_once("</Item>").map_or("", |(text, _)| text)));
            let Some(name) = attribute(attributes, "name") else { continue };
            let band = attribute(attributes, "sample").and_then(|band| band.parse().ok());
            let described = attribute(attributes, "role").as_deref() == Some("description");
            let class = name.strip_prefix(CLASS_PREFIX).and_then(|id| id.parse().ok());
            match (band, class) {
                (Some(band), _) if described => _ = metadata.band_names.insert(band, text),
                (Some(0), Some(class)) => _ = metadata.class_names.insert(class, text),
                (None, _) if attribute(attributes, "domain").is_none() => _ = metadata.items.insert(name, text),
                _ => {}
            }
        }
        metadata
    }

    /// The XML; `None` when there is nothing to say.
    pub(super) fn to_xml(&self) -> Option<String> {
        let item = |attributes: String, text: &str| format!("  <Item {attributes}>{}</Item>\n", escape(&escape(text)));
        let plain = self.items.iter().map(|(name, text)| item(format!("name=\"{}\"", escape(name)), text));
        let bands = self
            .band_names
            .iter()
            .map(|(band, text)| item(format!("name=\"DESCRIPTION\" sample=\"{band}\" role=\"description\""), text));
        let classes =
            self.class_names.iter().map(|(id, text)| item(format!("name=\"{CLASS_PREFIX}{id}\" sample=\"0\""), text));
        let items: String = plain.chain(bands).chain(classes).collect();
        (!items.is_empty()).then(|| format!("<GDALMetadata>\n{items}</GDALMetadata>\n"))
    }
}

fn attribute(attributes: &str, name: &str) -> Option<String> {
    let mut parts = attributes.split(['"', '\'']);
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        if key.trim().trim_end_matches('=').trim_end() == name {
            return Some(unescape(value));
        }
    }
    None
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_round_trip() {
        let metadata = GdalMetadata {
            items: [("PROGRAM".to_owned(), "a & b <c>".to_owned())].into(),
            band_names: [(0, "sand".to_owned()), (1, "\"coral\"".to_owned())].into(),
            class_names: [(7, "Acropora & co".to_owned())].into(),
        };
        let xml = metadata.to_xml().unwrap();
        assert!(xml.contains("a &amp;amp; b") && !xml.contains("<c>"));
        assert_eq!(GdalMetadata::parse(&xml), metadata);
        assert_eq!(GdalMetadata::default().to_xml(), None);
    }

    #[test]
    fn damaged_xml_is_passed_over() {
        for xml in ["", "<Item ", "<Item name=\"a", "<Item name='a'>x", "<Item sample=\"0\">x</Item>", "<Item name>"] {
            assert_eq!(GdalMetadata::parse(xml).band_names.len(), 0, "{xml}");
        }
        let statistics = "<Item name=\"STATISTICS_MEAN\" sample=\"0\">3</Item><Item name=\"A\" domain=\"X\">y</Item>";
        assert_eq!(GdalMetadata::parse(statistics), GdalMetadata::default());
    }
}
