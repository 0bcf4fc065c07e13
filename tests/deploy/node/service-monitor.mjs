// Holds the ServiceMonitor of rendered manifests (standard input) to the schema of the Prometheus operator.
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const manifests = parseAllDocuments(readFileSync(0, "utf8")).map((document) => document.toJS());
const [monitor, ...more] = manifests.filter((manifest) => manifest.kind === "ServiceMonitor");
if (!monitor || more.length) throw new Error("there is not one ServiceMonitor");
new ServiceMonitor(monitor).validate();
