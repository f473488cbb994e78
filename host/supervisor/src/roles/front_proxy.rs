//! Which front proxies may name users: upstream's options.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct RequestHeaderArguments {
    /// Who certifies front proxies, which name users in headers.
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that their certificates may have [default: any].
    #[arg(long, requires = "requestheader_client_ca_file", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Headers that may have the user's name; usually X-Remote-User.
    #[arg(long, requires = "requestheader_client_ca_file", value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    /// Headers that may have the user's UID; usually X-Remote-Uid.
    #[arg(long, requires = "requestheader_client_ca_file", value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    /// Headers that have the user's groups; usually X-Remote-Group.
    #[arg(long, requires = "requestheader_client_ca_file", value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    /// What headers with more of the user begin with; usually X-Remote-Extra-.
    #[arg(long, requires = "requestheader_client_ca_file", value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
}

impl RequestHeaderArguments {
    pub(super) fn given(self) -> Option<apiserver::RequestHeader> {
        Some(apiserver::RequestHeader {
            client_ca_file: self.requestheader_client_ca_file?,
            allowed_names: self.requestheader_allowed_names,
            username_headers: self.requestheader_username_headers,
            uid_headers: self.requestheader_uid_headers,
            group_headers: self.requestheader_group_headers,
            extra_headers_prefix: self.requestheader_extra_headers_prefix,
        })
    }
}
