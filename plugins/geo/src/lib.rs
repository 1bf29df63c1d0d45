//! Functions for the statements of rules about places:
//!
//! - `geo_distance(lat1, lon1, lat2, lon2)`: metres along the surface of the earth;
//! - `geo_within(lat, lon, area)`: whether a place is in an area, a GeoJSON polygon's outer ring
//!   (`[[lon, lat], …]`, RFC 7946, 3.1.6) or the name of one in the configuration:
//!   `[plugins.geo.config.areas]` `depot = [[13.3, 52.5], [13.5, 52.5], [13.4, 52.6]]`.
//!
//! ```sql
//! SELECT *, geo_distance(lat, lon, 52.52, 13.405) AS from_depot FROM 'truck/+/position'
//! WHERE NOT geo_within(lat, lon, 'depot')
//! ```
//!
//! Degrees of WGS 84; arguments that are no degrees make the value Undefined. Distances are those on a
//! sphere (haversine), up to 0.5 % from those on the ellipsoid. Areas are flat in degrees, which is good
//! for fences of some kilometres; one that crosses the 180th meridian has to be split.

use gnomon_sdk::{Plugin, RuleFunction, Value, export};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

export!(Geo: RuleFunction);

/// Mean radius of the earth in metres (IUGG).
const RADIUS_M: f64 = 6_371_008.8;

/// Corners of a ring: longitude, latitude.
type Ring = Vec<(f64, f64)>;

struct Geo {
    areas: BTreeMap<String, Ring>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Rings by name.
    #[serde(default)]
    areas: BTreeMap<String, serde_json::Value>,
}

impl Plugin for Geo {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let areas = config.areas.into_iter().map(|(name, json)| match ring(&json) {
            Some(ring) => Ok((name, ring)),
            None => Err(format!(
                "areas.{name} is no ring: give at least three corners, [[longitude, latitude], …]"
            )),
        });
        Ok(Self { areas: areas.collect::<Result<_, _>>()? })
    }
}

impl RuleFunction for Geo {
    const FUNCTIONS: &'static [(&'static str, RangeInclusive<u32>)] =
        &[("geo_distance", 4..=4), ("geo_within", 3..=3)];

    fn call(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        let value = match (name, arguments) {
            ("geo_distance", [lat1, lon1, lat2, lon2]) => {
                distance(place(lat1, lon1), place(lat2, lon2)).map(Value::from)
            }
            ("geo_within", [lat, lon, area]) => {
                let drawn = area.as_json().and_then(ring);
                let ring = match area.as_str() {
                    Some(name) => Some(
                        self.areas.get(name).ok_or_else(|| format!("there is no area {name}"))?,
                    ),
                    None => drawn.as_ref(),
                };
                place(lat, lon).zip(ring).map(|(place, ring)| within(place, ring).into())
            }
            _ => return Err(format!("there is no function {name}")),
        };
        Ok(value.unwrap_or(Value::Undefined))
    }
}

/// Longitude and latitude in degrees.
fn place(lat: &Value, lon: &Value) -> Option<(f64, f64)> {
    let lat = lat.as_f64().filter(|it| it.abs() <= 90.0)?;
    let lon = lon.as_f64().filter(|it| it.abs() <= 180.0)?;
    Some((lon, lat))
}

fn distance(from: Option<(f64, f64)>, to: Option<(f64, f64)>) -> Option<f64> {
    let ((lon1, lat1), (lon2, lat2)) = (from?, to?);
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let cosines = lat1.to_radians().cos() * lat2.to_radians().cos();
    let chord = half(lat1, lat2) + cosines * half(lon1, lon2);
    Some(2.0 * RADIUS_M * chord.min(1.0).sqrt().asin())
}

fn ring(json: &serde_json::Value) -> Option<Ring> {
    let corner = |corner: &serde_json::Value| match corner.as_array()?.as_slice() {
        [lon, lat, ..] => Some((lon.as_f64()?, lat.as_f64()?)),
        _ => None,
    };
    let ring: Option<Ring> = json.as_array()?.iter().map(corner).collect();
    ring.filter(|ring| ring.len() >= 3)
}

/// Counts the sides that a ray to the east crosses.
fn within((x, y): (f64, f64), ring: &Ring) -> bool {
    let mut inside = false;
    let mut previous = ring.len() - 1;
    for (at, &(x1, y1)) in ring.iter().enumerate() {
        let (x2, y2) = ring[previous];
        if (y1 > y) != (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 {
            inside = !inside;
        }
        previous = at;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn geo() -> Geo {
        let config =
            json!({"areas": {"depot": [[13.0, 52.0], [14.0, 52.0], [14.0, 53.0], [13.0, 53.0]]}});
        Geo::new(serde_json::from_value(config).unwrap()).unwrap()
    }

    fn call(name: &str, arguments: &[serde_json::Value]) -> Value {
        let arguments: Vec<_> = arguments.iter().cloned().map(Value::Json).collect();
        geo().call(name, &arguments).unwrap()
    }

    #[test]
    fn distances_are_those_of_the_sphere() {
        // Berlin to Paris: 878 km.
        let metres =
            call("geo_distance", &[json!(52.52), json!(13.405), json!(48.8566), json!(2.3522)]);
        assert!((metres.as_f64().unwrap() - 877_460.0).abs() < 1_000.0, "{metres:?}");
        let zero = call("geo_distance", &[json!(1), json!(2), json!(1), json!(2)]);
        assert_eq!(zero.as_f64(), Some(0.0));
        let half = call("geo_distance", &[json!(0), json!(0), json!(0), json!(180)]);
        assert!((half.as_f64().unwrap() - std::f64::consts::PI * RADIUS_M).abs() < 1.0, "{half:?}");
        for wrong in [json!(91), json!("1"), json!(null), json!([1])] {
            let value = call("geo_distance", &[wrong.clone(), json!(0), json!(0), json!(0)]);
            assert_eq!(value, Value::Undefined, "{wrong}");
        }
    }

    #[test]
    fn a_place_is_in_an_area_or_not() {
        let triangle = json!([[0, 0], [10, 0], [0, 10]]);
        for (lat, lon, area, expected) in [
            (1.0, 1.0, triangle.clone(), true),
            (6.0, 6.0, triangle.clone(), false),
            (-1.0, 1.0, triangle, false),
            (52.5, 13.4, json!("depot"), true),
            (52.5, 12.9, json!("depot"), false),
        ] {
            let value = call("geo_within", &[json!(lat), json!(lon), area.clone()]);
            assert_eq!(value, expected.into(), "{lat} {lon} {area}");
        }
        for wrong in
            [json!([[0, 0], [1, 1]]), json!({}), json!([[0, "a"], [1, 1], [2, 0]]), json!(1)]
        {
            assert_eq!(
                call("geo_within", &[json!(0), json!(0), wrong.clone()]),
                Value::Undefined,
                "{wrong}"
            );
        }
        let nowhere = geo().call("geo_within", &[1.into(), 2.into(), "nowhere".into()]);
        assert_eq!(nowhere, Err("there is no area nowhere".to_owned()));
    }

    #[test]
    fn an_area_that_is_none_is_refused() {
        let config = serde_json::from_value(json!({"areas": {"a": [[1, 2]]}})).unwrap();
        let error = Geo::new(config).err().unwrap();
        assert!(error.starts_with("areas.a is no ring"), "{error}");
    }
}
