#!/usr/bin/env bash
# Pauses, resumes, shows and restarts the agent on Kubernetes, and claims success only when the agent itself shows it.
#
#   scripts/control-agent.sh pause [--reason TEXT] [--for 30m]
#   scripts/control-agent.sh resume [--anyone]
#   scripts/control-agent.sh status
#   scripts/control-agent.sh restart
#   scripts/control-agent.sh help
#
# pause    writes `pause` into the ConfigMap, which lasts, and sends SIGUSR1, which is immediate. With --for (s, m, h, d)
#          the pause ends by itself, so it is written into the ConfigMap only: a signal has no end.
# resume   releases both. A pause in the ConfigMap that carries somebody else's name is left alone without --anyone.
# status   state, health files, holds, ConfigMap and the last lines of the log.
# restart  replaces the pod; refused while only the signal holds, because that hold would be lost.
#
# Environment: NAMESPACE and CONTEXT choose the cluster's side; BY is who asks (default: the user's name), REASON the
# same as --reason, TIMEOUT how many seconds to wait for the effect (default 150: a ConfigMap may take two minutes to
# reach a pod), CALL_TIMEOUT how many one call of kubectl may take (default 15), NO_COLOR as usual.
#
# Exit code: 0 in effect; 2 refused, or wrong usage; 3 asked for and not in effect: too late, or somebody else holds;
# 4 no running agent, or an unhealthy one.
set -euo pipefail

configmap=agent-control
deployment=pulling-agent
selector=app=pulling-agent
container=market-ingest
# The image has no shell, no kill, no cat and no test: the program is all of them.
program=/market-ingest

NAMESPACE=${NAMESPACE:-}
CONTEXT=${CONTEXT:-}
TIMEOUT=${TIMEOUT:-150}
CALL_TIMEOUT=${CALL_TIMEOUT:-15}
BY=${BY:-${USER:-$(id -un)}}
REASON=${REASON:-}

green='' red='' plain=''
if [[ -t 1 && -t 2 && -z ${NO_COLOR:-} ]]; then
    green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

note() { printf '%s\n' "$*"; }
success() { printf '%s✓ %s%s\n' "$green" "$*" "$plain"; }
# fail CODE TEXT…
fail() {
    local code=$1
    shift
    printf '%s✗ %s%s\n' "$red" "$*" "$plain" >&2
    exit "$code"
}

usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p;}' "$0"; }

kube() {
    timeout "$CALL_TIMEOUT" kubectl ${CONTEXT:+--context "$CONTEXT"} ${NAMESPACE:+--namespace "$NAMESPACE"} \
        --request-timeout "${CALL_TIMEOUT}s" "$@"
}

# Names of the agent's pods that run and are not on their way out, one a line.
running_pods() {
    kube get pods --selector "$selector" --field-selector status.phase=Running --output \
        'jsonpath={range .items[*]}{.metadata.name}{" "}{.metadata.deletionTimestamp}{"\n"}{end}' | awk 'NF == 1 { print $1 }'
}

# look POD: puts what its health files say into $health, and running, paused or unhealthy into $state.
look() {
    state=unhealthy
    if health=$(kube exec "$1" --container "$container" -- "$program" health 2>"$scratch/why"); then
        state=${health%%$'\n'*}
    fi
}

# The holds in $health, readable; none of those that a resume of ours releases if the first argument is `others`.
holds() {
    awk -F '\t' -v which="${1:-all}" '
        !/^hold=/ { next }
        { sub(/^hold=/, "") }
        which == "others" && /^(file|signal):/ { next }
        { printf "%s holds %s since %s", $1, $2, $3 }
        $4 != "-" { printf " until %s", $4 }
        $5 != "-" { printf ", by %s", $5 }
        $6 != "-" { printf " (%s)", $6 }
        { print "" }' <<<"$health"
}

# The ConfigMap's text; without it nothing can be asked for.
read_configmap() {
    kube get configmap "$configmap" --output 'jsonpath={.data.state}' ||
        fail 2 "The ConfigMap $configmap cannot be read. If it does not exist: kubectl create -f infra/kubernetes/configmap.yaml"
}

# The decision in a ConfigMap's text on stdin: its first line that is neither blank nor a comment, in lower case.
word() { awk '{ sub(/^[ \t]+/, ""); sub(/[ \t\r]+$/, "") } $0 != "" && !/^#/ { print tolower($0); exit }'; }
# field NAME: what the line `NAME: …` of a ConfigMap's text on stdin says.
field() { awk -v name="$1:" 'index(tolower($0), name) == 1 { sub(/^[^:]*:[ \t]*/, ""); sub(/[ \t\r]+$/, ""); print; exit }'; }

is_off() {
    case $1 in
        0 | false | off | no | n | f | pause | paused | halt | halted | disabled) return 0 ;;
        *) return 1 ;;
    esac
}

# Text as the inside of a JSON string, on one line.
json() {
    local text
    text=$(tr '[:cntrl:]' ' ' <<<"$1")
    text=${text% }
    text=${text//\\/\\\\}
    printf '%s' "${text//\"/\\\"}"
}

# write_configmap WORD [LINE…]
write_configmap() {
    local word=$1 text line
    text=$(json "$1")
    shift
    for line in "$@"; do
        text+="\\n$(json "$line")"
    done
    kube patch configmap "$configmap" --type merge --patch "{\"data\":{\"state\":\"$text\\n\"}}" >"$scratch/out" ||
        fail 2 "The ConfigMap $configmap could not be written; nothing was asked for."
    note "ConfigMap updated to '$word'"
}

# touch_pods NAME=VALUE…: tells in the pods' annotations, which makes their kubelets look at the ConfigMap at once.
touch_pods() {
    local pod
    for pod in $pods; do
        kube annotate pod "$pod" --overwrite "$@" >"$scratch/out" 2>"$scratch/why" ||
            note "Pod $pod not annotated ($(why)): its kubelet may take two minutes to see the ConfigMap"
    done
}

# send NAME: the signal to every pod; a pod that does not take it still has the ConfigMap.
send() {
    local pod
    for pod in $pods; do
        if kube exec "$pod" --container "$container" -- "$program" signal "$1" >"$scratch/out" 2>"$scratch/why"; then
            note "SIG$1 signal sent to pod"
        else
            note "SIG$1 signal not sent to pod $pod: $(why)"
        fi
    done
}

# The last thing that a call complained of.
why() {
    local line
    line=$(grep -Ev "^(command terminated with exit code .*)?\$" "$scratch/why" | tail -n 1) || true
    printf '%s' "${line:-no answer within $CALL_TIMEOUT s}"
}

# await STATE VERB: until every running pod shows the state. Says what stands in the way when it does not come.
await() {
    local wanted=$1 verb=$2 end=$((SECONDS + TIMEOUT)) pod there others in_the_way
    printf 'Waiting for agent to %s..' "$verb"
    while :; do
        there=1 in_the_way='no running pod'
        pods=$(running_pods 2>"$scratch/why") || in_the_way=$(why) pods=
        [[ -n $pods ]] || there=0
        for pod in $pods; do
            look "$pod"
            if [[ $state == "$wanted" ]]; then continue; fi
            there=0 in_the_way="pod $pod is $state"
            case $state in
                unhealthy) in_the_way+=": $(why)" ;;
                paused)
                    others=$(holds others)
                    # As long as a hold of ours stands, its release is on the way.
                    if [[ $verb == resume && -n $others ]] && ! grep -Eq '^hold=(file|signal):' <<<"$health"; then
                        printf '\n'
                        note "$others"
                        fail 3 "Agent still paused: released here, but still held by somebody else"
                    fi
                    in_the_way+=$'\n'$(holds)
                    ;;
            esac
        done
        if ((there)); then
            printf '\n'
            return
        fi
        if ((SECONDS >= end)); then
            printf '\n'
            [[ -n $pods ]] || fail 4 "No running agent: $in_the_way"
            fail 3 "Agent did not $verb within $TIMEOUT s: $in_the_way"
        fi
        sleep 1
        printf '.'
    done
}

# Puts the running pods into $pods; without one, what was asked for waits in the ConfigMap.
find_pods() {
    pods=$(running_pods) || fail 2 'The pods cannot be listed.'
    [[ -n $pods ]] || fail 4 "No running agent (pods with $selector): the ConfigMap says '$1' to the next one"
}

# The moment so many seconds from now, RFC 3339.
in_seconds() {
    local at=$(($(date +%s) + $1))
    date -u -d "@$at" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$at" +%Y-%m-%dT%H:%M:%SZ
}

# The moment when a span such as 30m, begun now, is over.
in_span() {
    local unit
    [[ $1 =~ ^([1-9][0-9]{0,5})(s|m|h|d)$ ]] || fail 2 "--for '$1': a number and s, m, h or d, such as 30m"
    case ${BASH_REMATCH[2]} in
        s) unit=1 ;;
        m) unit=60 ;;
        h) unit=3600 ;;
        d) unit=86400 ;;
    esac
    in_seconds $((BASH_REMATCH[1] * unit))
}

pause() {
    local until='' standing stands_until by lines=("by: $BY")
    while (($#)); do
        case $1 in
            --reason | --for) (($# > 1)) || fail 2 "$1 needs a value" ;;
            *) fail 2 "pause does not know '$1'; it takes --reason TEXT and --for 30m" ;;
        esac
        case $1 in
            --reason) REASON=$2 ;;
            --for) until=$(in_span "$2") ;;
        esac
        shift 2
    done
    if [[ -n $REASON ]]; then lines+=("reason: $REASON"); fi
    if [[ -n $until ]]; then lines+=("until: $until"); fi

    note 'Pausing agent...'
    standing=$(read_configmap)
    by=$(field by <<<"$standing")
    stands_until=$(field until <<<"$standing")
    # Nobody's pause is cut short by another's.
    if is_off "$(word <<<"$standing")" && [[ $by != "$BY" ]] &&
        [[ -z $stands_until || (-n $until && $stands_until > $until) ]]; then
        note "ConfigMap left as it is: paused by ${by:-somebody} already${stands_until:+ until $stands_until}"
    else
        write_configmap pause "${lines[@]}"
    fi
    find_pods pause
    touch_pods "paused-by=$BY" "paused-reason=${REASON:--}" "paused-at=$(in_seconds 0)"
    if [[ -z $until ]]; then send USR1; fi
    await paused pause
    success "Agent successfully paused${until:+ until $until}"
}

resume() {
    local anyone=0 standing by reason
    case ${1-} in
        '') ;;
        --anyone) anyone=1 ;;
        *) fail 2 "resume does not know '$1'; it takes --anyone" ;;
    esac

    note 'Resuming agent...'
    standing=$(read_configmap)
    by=$(field by <<<"$standing")
    reason=$(field reason <<<"$standing")
    if ((!anyone)) && is_off "$(word <<<"$standing")" && [[ -n $by && $by != "$BY" ]]; then
        fail 3 "Nothing changed: the ConfigMap's pause was made by $by${reason:+ ($reason)}, not by $BY. With their consent: resume --anyone"
    fi
    write_configmap resume "by: $BY"
    find_pods resume
    touch_pods paused-by- paused-reason- paused-at- "resumed-by=$BY" "resumed-at=$(in_seconds 0)"
    send USR2
    await running resume
    success 'Agent successfully resumed'
}

show_status() {
    local pod said code=0
    said=$(read_configmap)
    note "ConfigMap state: $(word <<<"$said")"
    for name in by reason until; do
        local value
        value=$(field "$name" <<<"$said")
        if [[ -n $value ]]; then note "  $name: $value"; fi
    done
    pods=$(running_pods) || fail 2 'The pods cannot be listed.'
    [[ -n $pods ]] || fail 4 "No running agent (pods with $selector)"
    for pod in $pods; do
        look "$pod"
        note "Pod: $pod"
        note "Current state: $(tr '[:lower:]' '[:upper:]' <<<"$state")"
        if [[ $state == unhealthy ]]; then
            note "  $(why)"
            code=4
        fi
        note 'Health files:'
        awk '!/^hold=/ { print "  " $0 }' <<<"$health"
        note 'Holds:'
        holds | awk '{ print "  " $0 } END { if (NR == 0) print "  none" }'
        note 'Recent logs:'
        kube logs "$pod" --container "$container" --tail 10 2>&1 | awk '{ print "  " $0 }' || true
    done
    return "$code"
}

restart() {
    local pod standing
    standing=$(read_configmap)
    find_pods "$(word <<<"$standing")"
    for pod in $pods; do
        look "$pod"
        if grep -q '^hold=signal:' <<<"$health" && ! is_off "$(word <<<"$standing")"; then
            fail 2 "Not restarted: pod $pod is held by a signal only, which would be lost. Pause in the ConfigMap first: $0 pause"
        fi
    done
    note 'Restarting agent...'
    kube rollout restart "deployment/$deployment" >"$scratch/out" || fail 2 'The deployment could not be restarted.'
    CALL_TIMEOUT=$((TIMEOUT + 5)) kube rollout status "deployment/$deployment" --timeout "${TIMEOUT}s" ||
        fail 3 "The new pod was not ready within $TIMEOUT s"
    pods=$(running_pods) || fail 2 'The pods cannot be listed.'
    [[ -n $pods ]] || fail 4 'No running agent after the restart'
    for pod in $pods; do
        look "$pod"
        [[ $state != unhealthy ]] || fail 4 "Agent restarted, but unhealthy: $(why)"
        success "Agent restarted, $state"
    done
}

[[ $TIMEOUT =~ ^[0-9]+$ && $CALL_TIMEOUT =~ ^[1-9][0-9]*$ ]] || fail 2 'TIMEOUT and CALL_TIMEOUT are whole seconds'
if ((!$#)); then
    usage >&2
    fail 2 'a command is needed'
fi
command=$1
shift
case $command in
    help | -h | --help)
        usage
        exit 0
        ;;
    pause | resume | status | restart) ;;
    *)
        usage >&2
        fail 2 "unknown command '$command'"
        ;;
esac
for tool in kubectl timeout; do
    command -v "$tool" >/dev/null || fail 2 "$tool is needed (timeout is part of coreutils)"
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/why"
case $command in
    pause) pause "$@" ;;
    resume) resume "$@" ;;
    status) show_status ;;
    restart) restart ;;
esac
