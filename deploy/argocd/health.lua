-- Health of a CeleryWorkerPool for Argo CD: resource.customizations.health.celeriac.dev_CeleryWorkerPool in argocd-cm.
-- The same rules as kstatus: Reconciling is progressing, Stalled is degraded, Ready is healthy.
local status = obj.status or {}
local generation = obj.metadata and obj.metadata.generation
if status.observedGeneration == nil or (generation ~= nil and status.observedGeneration ~= generation) then
  return {status = "Progressing", message = "waiting for the operator"}
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local reconciling, stalled, ready = found.Reconciling, found.Stalled, found.Ready
if reconciling ~= nil and reconciling.status == "True" then
  return {status = "Progressing", message = reconciling.message}
end
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if ready == nil or ready.status ~= "True" then
  return {status = "Progressing", message = ready and ready.message or "waiting for the operator"}
end
return {status = "Healthy", message = ready.message}
