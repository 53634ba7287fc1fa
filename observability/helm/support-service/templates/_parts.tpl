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

{{- /* The settings of the service that the chart depends on, with the defaults of the service. */ -}}
{{- define "support.settings" -}}
{{- $settings := dict "SUPPORT_AUTH" "open" "SUPPORT_ATTACHMENT_STORE" "local" "SUPPORT_STOP_DELAY" "0" "SUPPORT_STOP_TIMEOUT" "10" -}}
{{- $given := merge (dict) .Values.secretSettings .Values.settings -}}
{{- range .Values.extraEnv }}{{ $_ := set $given .name (.value | default "") }}{{ end -}}
{{- pick (merge (dict) $given $settings) "SUPPORT_AUTH" "SUPPORT_ATTACHMENT_STORE" "SUPPORT_STOP_DELAY" "SUPPORT_STOP_TIMEOUT" "SUPPORT_TRUSTED_PROXIES" | toYaml -}}
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

{{- /* What a JSON schema cannot say of several values. */ -}}
{{- define "support.checks" -}}
{{- $settings := include "support.settings" . | fromYaml -}}
{{- $margin := 5 -}}
{{- $needed := addf (float64 $settings.SUPPORT_STOP_DELAY) (float64 $settings.SUPPORT_STOP_TIMEOUT) $margin -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, and pods would be killed while they answer requests: set at least %v, the sum of SUPPORT_STOP_DELAY (%v s), SUPPORT_STOP_TIMEOUT (%v s) and %v s for the end of the process" .Values.terminationGracePeriodSeconds $needed $settings.SUPPORT_STOP_DELAY $settings.SUPPORT_STOP_TIMEOUT $margin) -}}
{{- end -}}
{{- if and (eq "token" (lower $settings.SUPPORT_AUTH)) (not .Values.tokensSecret) -}}
{{- fail "tokensSecret is empty, and nobody could sign in: name the Secret with tokens.json, or set settings.SUPPORT_AUTH to jwt" -}}
{{- end -}}
{{- if and .Values.secretSettings (not .Values.secret) -}}
{{- fail "secret is empty: name the Secret that the chart makes of secretSettings" -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if and .enabled (lt .maxReplicas .minReplicas) -}}
{{- fail (printf "autoscaling.maxReplicas is %v: set at least autoscaling.minReplicas, %v" .maxReplicas .minReplicas) -}}
{{- end -}}
{{- if and .enabled (not (dig "requests" "cpu" "" $.Values.resources)) -}}
{{- fail "autoscaling needs resources.requests.cpu: the target is a percentage of it" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (hasKey $settings "SUPPORT_TRUSTED_PROXIES")) -}}
{{- fail "settings.SUPPORT_TRUSTED_PROXIES is missing, and all clients would share the rate limit of the ingress: name the network of its pods, such as 10.244.0.0/16" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.ingress.enabled (not .Values.networkPolicy.from) -}}
{{- fail "networkPolicy.from is empty, and the ingress could not reach the service: name the pods of the ingress controller, and Prometheus" -}}
{{- end -}}
{{- end }}

{{- define "support.podMetadata" -}}
labels:
  app: {{ .app }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
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

{{- define "support.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "support.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
