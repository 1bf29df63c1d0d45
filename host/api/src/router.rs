//! From a request to its operation: by service first, because paths collide between services,
//! then by path, then by method.
//!
//! In: the service of the signature's scope, method and path. Out: the [`Operation`], its
//! handler and the labels of the path. Not here: who may call it (`Api`).

use crate::call::{Answer, Call};
use crate::error::{ApiError, Exception};
use crate::operations::{GNOMON, IOT, IOT_DATA, Operation};
use crate::{
    Services, administration, certificate_operations, health, iot, iot_data, object_operations,
    payload_schemas, quarantine_operations, rule_operations, table_operations,
};
use http::Method;
use percent_encoding::percent_decode_str;
use std::pin::Pin;

/// What a handler returns.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send + 'a>>;

/// Does what an operation asks.
pub(crate) type Handler = for<'a> fn(&'a Services, &'a Call<'a>) -> Answering<'a>;

/// The handlers of one module, by the name of the operation.
pub(crate) type Handlers = &'static [(&'static str, Handler)];

/// `handlers! { CreateThing => create; … }`: names of operations and the `async fn`s behind them.
macro_rules! handlers {
    ($($operation:ident => $handler:path;)*) => {
        &[$((stringify!($operation), |services, call| Box::pin($handler(services, call)))),*]
    };
}
pub(crate) use handlers;

/// A service of the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The control plane.
    Iot,
    /// The data plane.
    IotData,
    /// Gnomon's own administration.
    Gnomon,
}

impl Service {
    /// The service that the scope of a signature names.
    pub(crate) fn of_scope(name: &str) -> Option<Self> {
        match name {
            "iot" => Some(Self::Iot),
            // The second is how older SDKs sign requests to the data plane.
            "iotdata" | "iotdevicegateway" => Some(Self::IotData),
            "gnomon" => Some(Self::Gnomon),
            _ => None,
        }
    }

    fn operations(self) -> &'static [Operation] {
        match self {
            Self::Iot => IOT,
            Self::IotData => IOT_DATA,
            Self::Gnomon => GNOMON,
        }
    }

    /// Every module that has handlers for the service.
    fn handlers(self) -> &'static [Handlers] {
        match self {
            Self::Iot => &[
                iot::authorization::HANDLERS,
                iot::authorizers::HANDLERS,
                iot::billing_groups::HANDLERS,
                iot::ca_certificates::HANDLERS,
                iot::certificate_transfers::HANDLERS,
                iot::certificates::HANDLERS,
                iot::domain_configurations::HANDLERS,
                iot::dynamic_thing_groups::HANDLERS,
                iot::endpoints::HANDLERS,
                iot::events::HANDLERS,
                iot::fleet_indexing::HANDLERS,
                iot::logging::HANDLERS,
                iot::policies::HANDLERS,
                iot::principals::HANDLERS,
                iot::provisioning::HANDLERS,
                iot::role_aliases::HANDLERS,
                iot::rules::HANDLERS,
                iot::tags::HANDLERS,
                iot::thing_groups::HANDLERS,
                iot::thing_registration::HANDLERS,
                iot::thing_types::HANDLERS,
                iot::things::HANDLERS,
            ],
            Self::IotData => &[
                iot_data::connections::HANDLERS,
                iot_data::publish::HANDLERS,
                iot_data::retained::HANDLERS,
                iot_data::shadows::HANDLERS,
            ],
            Self::Gnomon => &[
                administration::HANDLERS,
                certificate_operations::HANDLERS,
                iot::authorization::OWN_HANDLERS,
                object_operations::HANDLERS,
                payload_schemas::HANDLERS,
                quarantine_operations::HANDLERS,
                rule_operations::HANDLERS,
                table_operations::HANDLERS,
                health::HANDLERS,
            ],
        }
    }
}

/// An operation and, when this host has it, its handler.
#[derive(Clone, Copy)]
struct Route {
    operation: &'static Operation,
    handler: Option<Handler>,
}

/// Names and decoded values of the labels of a path.
pub(crate) type Labels = Vec<(String, String)>;

/// The operation that a request asks for.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which.
    pub operation: &'static Operation,
    /// Does it.
    pub handler: Handler,
    /// Of the path.
    pub labels: Labels,
}

/// The operations of all services.
pub(crate) struct Router {
    iot: matchit::Router<Vec<Route>>,
    iot_data: matchit::Router<Vec<Route>>,
    gnomon: matchit::Router<Vec<Route>>,
}

impl Router {
    /// Joins operations and handlers.
    pub(crate) fn new() -> Self {
        Self {
            iot: paths(Service::Iot),
            iot_data: paths(Service::IotData),
            gnomon: paths(Service::Gnomon),
        }
    }

    /// The operation that a request asks for.
    ///
    /// # Errors
    /// Unknown path, unknown method, an operation that this host does not have, a label that is
    /// no UTF-8.
    pub(crate) fn find(
        &self,
        service: Service,
        method: &Method,
        path: &str,
    ) -> Result<Found, ApiError> {
        let paths = match service {
            Service::Iot => &self.iot,
            Service::IotData => &self.iot_data,
            Service::Gnomon => &self.gnomon,
        };
        // As it is first: a topic may end with a slash.
        let found = paths.at(path).or_else(|error| match path.strip_suffix('/') {
            Some(path) => paths.at(path),
            None => Err(error),
        });
        let Ok(found) = found else {
            let message = format!("no operation of {service:?} has the path of this request");
            return Err(ApiError::new(Exception::UnknownOperation, message));
        };
        let Some(route) = found.value.iter().find(|route| route.operation.method == *method) else {
            let methods: Vec<_> = found.value.iter().map(|r| r.operation.method.as_str()).collect();
            let message = format!("this path takes {} only", methods.join(", "));
            return Err(ApiError::new(Exception::MethodNotAllowed, message));
        };
        let Route { operation, handler: Some(handler) } = *route else {
            let message =
                format!("{} is not implemented by this version of Gnomon", route.operation.name);
            return Err(ApiError::new(Exception::NotImplemented, message));
        };
        let mut labels = Vec::with_capacity(found.params.len());
        for (name, value) in found.params.iter() {
            let value = percent_decode_str(value).decode_utf8().map_err(|_| {
                ApiError::invalid_request(format!("{name} in the path is not UTF-8"))
            })?;
            labels.push((name.to_owned(), value.into_owned()));
        }
        Ok(Found { operation, handler, labels })
    }
}

fn paths(service: Service) -> matchit::Router<Vec<Route>> {
    let mut by_path: Vec<(String, Vec<Route>)> = Vec::new();
    for operation in service.operations() {
        let handler = service
            .handlers()
            .iter()
            .copied()
            .flatten()
            .find(|(name, _)| *name == operation.name)
            .map(|(_, handler)| *handler);
        let route = Route { operation, handler };
        let path = pattern(operation.path);
        match by_path.iter_mut().find(|(known, _)| *known == path) {
            Some((_, routes)) => routes.push(route),
            None => by_path.push((path, vec![route])),
        }
    }
    let mut router = matchit::Router::new();
    for (path, routes) in by_path {
        router.insert(path, routes).expect("a test builds this table of constants");
    }
    router
}

/// AWS writes a label of all the rest `{x+}`, matchit `{*x}`.
fn pattern(path: &str) -> String {
    match path.strip_suffix("+}").and_then(|path| path.rsplit_once('{')) {
        Some((before, name)) => format!("{before}{{*{name}}}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod bad_input;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn find(service: Service, method: &Method, path: &str) -> Result<(String, Labels), Exception> {
        Router::new()
            .find(service, method, path)
            .map(|found| (found.operation.name.to_owned(), found.labels))
            .map_err(|error| error.exception)
    }

    #[test]
    fn every_handler_has_its_operation() {
        for service in [Service::Iot, Service::IotData, Service::Gnomon] {
            for (name, _) in service.handlers().iter().copied().flatten() {
                let known = service.operations().iter().any(|operation| operation.name == *name);
                assert!(known, "{service:?} has no operation {name}");
            }
        }
    }

    #[test]
    fn a_label_is_decoded_after_routing() {
        let (name, labels) =
            find(Service::Gnomon, &Method::DELETE, "/keys/AK%2FIA%20%C3%BC").unwrap();
        assert_eq!(name, "DeleteAccessKey");
        assert_eq!(labels, [("accessKeyId".to_owned(), "AK/IA ü".to_owned())]);
        assert_eq!(
            find(Service::Gnomon, &Method::DELETE, "/keys/%ff"),
            Err(Exception::InvalidRequest)
        );
    }

    #[test]
    fn a_trailing_slash_is_tolerated() {
        assert_eq!(find(Service::Gnomon, &Method::GET, "/keys/").unwrap().0, "ListAccessKeys");
    }

    #[test]
    fn what_cannot_be_routed_says_why() {
        for (service, method, path, expected) in [
            (Service::Iot, Method::GET, "/", Exception::UnknownOperation),
            (Service::Iot, Method::GET, "/keys", Exception::UnknownOperation),
            (Service::Iot, Method::GET, "/things/a/b/c/d", Exception::UnknownOperation),
            (Service::Gnomon, Method::PUT, "/keys", Exception::MethodNotAllowed),
            (Service::Iot, Method::PUT, "/jobs/j", Exception::NotImplemented),
            (Service::Iot, Method::GET, "/destinations/arn:a/b/c", Exception::NotImplemented),
        ] {
            assert_eq!(find(service, &method, path), Err(expected), "{method} {path}");
        }
    }
}
