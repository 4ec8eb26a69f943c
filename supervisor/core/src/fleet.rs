//! All workers of an application together: order of starts and stops, dependencies, operator's requests.
