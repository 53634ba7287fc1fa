{{- define "support.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
{{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
labels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "support.image" -}}
{{- $image := .Values.image -}}
image: {{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- with $image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{- define "support.environment" -}}
envFrom:
  - configMapRef:
      name: support-service
  {{- with .Values.secret }}
  - secretRef:
      name: {{ . }}
  {{- end }}
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "support.migrationEnv" -}}
{{- $variables := .Values.migration.extraEnv | default list -}}
{{- $names := list -}}
{{- range $variables }}{{ $names = append $names .name }}{{ end -}}
{{- range .Values.extraEnv }}{{ if not (has .name $names) }}{{ $variables = append $variables . }}{{ end }}{{ end -}}
{{- toYaml $variables -}}
{{- end }}

{{- define "support.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary "support-service" "" .Values.serviceAccount.create) }}
{{- end }}

{{- /* Variables are texts: `SUPPORT_PORT: 9000` becomes "9000". */ -}}
{{- define "support.texts" -}}
{{- range $name, $value := . }}
{{ $name }}: {{ ternary $value (toJson $value) (kindIs "string" $value) | toJson }}
{{- end }}
{{- end }}

{{- /* The settings with which the service runs: what the values say, and the defaults of the service. */ -}}
{{- define "support.settings" -}}
{{- $given := merge (dict) .Values.secretSettings .Values.settings -}}
{{- range .Values.extraEnv }}{{ $_ := set $given .name (.value | default (ternary "set elsewhere" "" (hasKey . "valueFrom"))) }}{{ end -}}
{{- range $name, $form := .Files.Get "settings.json" | fromJson -}}
{{- $default := ternary "set elsewhere" (get $form "default") (hasKey $given (print $name "_FILE")) -}}
{{- if not (toString (get $given $name)) }}{{ $_ := set $given $name $default }}{{ end -}}
{{- end -}}
{{- include "support.texts" $given -}}
{{- end }}

{{- define "support.persistent" -}}
{{- $settings := include "support.settings" . | fromYaml -}}
{{- $inBucket := eq "s3" (lower $settings.SUPPORT_ATTACHMENT_STORE) -}}
{{- if and (eq .Values.persistence.enabled false) (not $inBucket) -}}
{{- fail "persistence.enabled is false, and files would be lost with their pod: set settings.SUPPORT_ATTACHMENT_STORE to s3, or enable persistence" -}}
{{- end -}}
{{- $needed := or (not $inBucket) .Values.persistence.existingClaim -}}
{{- if kindIs "bool" .Values.persistence.enabled | ternary .Values.persistence.enabled $needed }}yes{{ end -}}
{{- end }}

{{- /* Variables whose names or values the service does not take. `values` has them by name, `place` is where they are. */ -}}
{{- define "support.checkVariables" -}}
{{- $place := .place -}}
{{- $known := .known -}}
{{- range $name, $value := include "support.texts" .values | fromYaml -}}
{{- if and (hasPrefix "SUPPORT_" $name) (not (hasKey $known $name)) (not (hasKey $known (trimSuffix "_FILE" $name))) -}}
{{- fail (printf "%s has %s, and the service has no such setting: take a name of the chart's settings.json" $place $name) -}}
{{- end -}}
{{- $form := get $known $name | default dict -}}
{{- $wrong := not (regexMatch (printf "^(%s)$" (get $form "pattern" | default "(?s:.*)")) (trim $value)) -}}
{{- range $key, $limit := pick $form "minimum" "maximum" "above" -}}
{{- $number := float64 (trim $value) -}}
{{- $wrong = or $wrong (and (eq $key "minimum") (lt $number (float64 $limit))) (and (eq $key "maximum") (gt $number (float64 $limit))) (and (eq $key "above") (le $number (float64 $limit))) -}}
{{- end -}}
{{- if and $value $wrong -}}
{{- fail (printf "%s.%s%s: expected %s" $place $name (ternary "" (printf " is %q" $value) (hasSuffix "_URL" $name)) (get $form "expected")) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* What a JSON schema cannot say of several values. */ -}}
{{- define "support.checks" -}}
{{- $known := .Files.Get "settings.json" | fromJson -}}
{{- range $place, $values := dict "settings" .Values.settings "secretSettings" .Values.secretSettings -}}
{{- include "support.checkVariables" (dict "known" $known "place" $place "values" $values) -}}
{{- end -}}
{{- range $place, $variables := dict "extraEnv" .Values.extraEnv "migration.extraEnv" .Values.migration.extraEnv "probe.extraEnv" .Values.probe.extraEnv -}}
{{- range $variables -}}
{{- include "support.checkVariables" (dict "known" $known "place" $place "values" (dict .name (.value | default ""))) -}}
{{- end -}}
{{- end -}}
{{- $settings := include "support.settings" . | fromYaml -}}
{{- $auth := lower $settings.SUPPORT_AUTH -}}
{{- if not (regexMatch "^0*[1-9]" $settings.SUPPORT_PORT) -}}
{{- fail (printf "SUPPORT_PORT is %q, and the pods need a port that is known before they start: set settings.SUPPORT_PORT to a number such as 8000" $settings.SUPPORT_PORT) -}}
{{- end -}}
{{- if has $settings.SUPPORT_HOST (list "127.0.0.1" "localhost" "::1") -}}
{{- fail (printf "SUPPORT_HOST is %s, and nothing outside the pod could reach the service: set settings.SUPPORT_HOST to 0.0.0.0, or to :: for IPv6" $settings.SUPPORT_HOST) -}}
{{- end -}}
{{- if eq "open" $auth -}}
{{- fail "SUPPORT_AUTH is open, and the service would refuse to start on an address that others reach: set settings.SUPPORT_AUTH to token or jwt" -}}
{{- end -}}
{{- if and (not $settings.SUPPORT_S3_BUCKET) (or (eq "s3" (lower $settings.SUPPORT_ATTACHMENT_STORE)) $settings.SUPPORT_OFFLOAD_AFTER) -}}
{{- fail "SUPPORT_S3_BUCKET is missing: name the bucket in settings.SUPPORT_S3_BUCKET, or set SUPPORT_ATTACHMENT_STORE and SUPPORT_OFFLOAD_AFTER to null" -}}
{{- end -}}
{{- if not (or .Values.secret .Values.envFrom (not (hasPrefix "sqlite" $settings.SUPPORT_DATABASE_URL))) -}}
{{- fail "secret is empty, and the service has no database: name the Secret with SUPPORT_DATABASE_URL, or set settings.SUPPORT_DATABASE_URL" -}}
{{- end -}}
{{- if and $settings.SUPPORT_ADMIN_PORT .Values.monitoring.enabled -}}
{{- fail "SUPPORT_ADMIN_PORT takes the metrics from the port that Prometheus reads: set SUPPORT_METRICS_TOKEN and monitoring.authorization instead, or monitoring.enabled to false" -}}
{{- end -}}
{{- $needed := addf (float64 $settings.SUPPORT_STOP_DELAY) 15 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, and pods would be killed while they answer requests: set at least %v, the sum of SUPPORT_STOP_DELAY (%v s), 10 s for requests and 5 s for the end of the process" .Values.terminationGracePeriodSeconds $needed $settings.SUPPORT_STOP_DELAY) -}}
{{- end -}}
{{- if and (eq "token" $auth) (not .Values.tokensSecret) -}}
{{- fail "tokensSecret is empty, and nobody could sign in: name the Secret with tokens.json, or set settings.SUPPORT_AUTH to jwt" -}}
{{- end -}}
{{- if and (eq "token" $auth) (not (isAbs $settings.SUPPORT_TOKENS_FILE)) -}}
{{- fail (printf "SUPPORT_TOKENS_FILE is %s, and nobody could sign in: set settings.SUPPORT_TOKENS_FILE to /etc/support/tokens.json, where tokensSecret is mounted" $settings.SUPPORT_TOKENS_FILE) -}}
{{- end -}}
{{- if and .Values.secretSettings (not .Values.secret) -}}
{{- fail "secret is empty: name the Secret that the chart makes of secretSettings" -}}
{{- end -}}
{{- $replicas := int .Values.replicaCount -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- $replicas = int .minReplicas -}}
{{- if lt (int .maxReplicas) (int .minReplicas) -}}
{{- fail (printf "autoscaling.maxReplicas is %v: set at least autoscaling.minReplicas, %v" .maxReplicas .minReplicas) -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" $.Values.resources) -}}
{{- fail "autoscaling needs resources.requests.cpu: the target is a percentage of it" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (kindIs "invalid" .maxUnavailable) (not (kindIs "string" .minAvailable)) (ge (int .minAvailable) $replicas) -}}
{{- fail (printf "podDisruptionBudget.minAvailable is %v, and no node could be drained: set fewer than the %d replicas" .minAvailable $replicas) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (get $settings "SUPPORT_TRUSTED_PROXIES")) -}}
{{- fail "settings.SUPPORT_TRUSTED_PROXIES is missing, and all clients would share the rate limit of the ingress: name the network of its pods, such as 10.244.0.0/16" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.ingress.enabled (not .Values.networkPolicy.from) -}}
{{- fail "networkPolicy.from is empty, and the ingress could not reach the service: name the pods of the ingress controller, and Prometheus" -}}
{{- end -}}
{{- end }}

{{- define "support.podMetadata" -}}
labels:
  {{- toYaml (merge (dict "app" .app) .root.Values.podLabels .root.Values.commonLabels) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "support.podPlacement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
