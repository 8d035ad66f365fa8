#!/usr/bin/env bash
# The certificates of a fleet's NATS servers and daemons, and the daemons' rights. It needs openssl alone.
#
#   deploy/fleet/make_credentials.sh DIR FLEET "SERVER…" ["MEMBER…"]
#
#   DIR      where the files are written
#   FLEET    daemon.fleet.name
#   SERVER   host names or IP addresses of the NATS servers, as the daemons and the other servers reach them
#   MEMBER   daemon.fleet.member of each daemon
#
#   DIR/server/     each NATS server gets this folder
#   DIR/members/    each daemon gets its NAME.crt and NAME.key, and servers-ca.pem
#   DIR/admin/      certificates of people: fleet.crt may do all in the fleet's account, system.crt manages the servers
#   DIR/authority/  the keys that sign; they belong on no server. Keep a copy
#
# No certificate or key is ever replaced: to add a member call it again with its name, to renew one delete its files first.
# The rights (server/accounts.conf) are written anew, for all members that have a certificate.
set -euo pipefail
umask 077

days=${DAYS:-825} # of certificates; the authorities live ten years
usage() { sed -n '/^#   deploy/,/^#   MEMBER/s/^#   //p' "$0" >&2; exit 2; }
[[ $# -eq 3 || $# -eq 4 ]] || usage
dir=$1 fleet=$2
read -ra servers <<< "$3"
read -ra members <<< "${4:-}"
[[ $fleet =~ ^[A-Za-z0-9_-]{1,32}$ ]] || { echo "FLEET should match [A-Za-z0-9_-]{1,32}; got $fleet" >&2; exit 2; }
[[ ${#servers[@]} -gt 0 ]] || usage
for name in "${members[@]}"; do
    [[ $name =~ ^[A-Za-z0-9_-]{1,64}$ ]] || { echo "MEMBER should match [A-Za-z0-9_-]{1,64}; got $name" >&2; exit 2; }
    [[ $name != admin && $name != system ]] || { echo "MEMBER may not be $name: that is an administrator" >&2; exit 2; }
done
for name in "${servers[@]}"; do
    [[ $name =~ ^[A-Za-z0-9.:-]+$ ]] || { echo "SERVER should be a host name or an IP address; got $name" >&2; exit 2; }
done

mkdir -p "$dir"/{authority,server,members,admin}

authority() { # NAME
    local path=$dir/authority/$1
    [[ -e $path.pem ]] && return
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/O=$fleet/CN=$1" \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$path.key" -out "$path.pem" 2> /dev/null
}

certificate() { # PATH AUTHORITY SUBJECT-ALT-NAME EXTENDED-KEY-USAGE
    [[ -e $1.crt ]] && return
    local request=$1.csr
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/O=$fleet/CN=$(basename "$1")" \
        -keyout "$1.key" -out "$request" 2> /dev/null
    openssl x509 -req -in "$request" -days "$days" -CA "$dir/authority/$2.pem" -CAkey "$dir/authority/$2.key" \
        -set_serial "0x$(openssl rand -hex 16)" -out "$1.crt" -extfile <(
            printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n'
            printf 'extendedKeyUsage=%s\nsubjectAltName=%s\n' "$4" "$3"
        ) 2> /dev/null
    rm "$request"
}

authority servers
authority members
names=""
for name in "${servers[@]}"; do
    if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then kind=IP; else kind=DNS; fi
    names+="${names:+,}$kind:$name"
done
# A server is a client of the other servers.
certificate "$dir/server/server" servers "$names" serverAuth,clientAuth
cp "$dir/authority/servers.pem" "$dir/server/servers-ca.pem"
cp "$dir/authority/members.pem" "$dir/server/members-ca.pem"
cp "$dir/authority/servers.pem" "$dir/members/servers-ca.pem"
# NATS takes a certificate's e-mail address as the name of its user.
certificate "$dir/admin/fleet" members "email:admin@$fleet" clientAuth
certificate "$dir/admin/system" members "email:system@$fleet" clientAuth
for name in "${members[@]}"; do
    certificate "$dir/members/$name" members "email:$name@$fleet" clientAuth
done

{
    echo "# The servers' routes to each other, of make_credentials.sh."
    echo "routes: ["
    for name in "${servers[@]}"; do
        if [[ $name == *:* ]]; then echo "  \"tls://[$name]:6222\""; else echo "  \"tls://$name:6222\""; fi
    done
    echo "]"
} > "$dir/server/routes.conf"

member_rights() { # NAME
    # What a member announces is under its own name; everything else belongs to all members of the fleet.
    printf '        "$KV.trackd_%s_members.%s"\n' "$fleet" "$1"
    printf '        "$KV.trackd_%s_owners.>"\n' "$fleet"
    printf '        "trackd.%s.log.>"\n        "trackd.%s.piece.>"\n' "$fleet" "$fleet"
    printf '        "$O.trackd_%s_files.>"\n' "$fleet"
    printf '        "$JS.API.%s"\n' INFO STREAM.NAMES
    local log=TRACKD_${fleet}_LOG pieces=TRACKD_${fleet}_PIECES files=OBJ_trackd_${fleet}_files stream
    for stream in "KV_trackd_${fleet}_members" "KV_trackd_${fleet}_owners" "$log" "$pieces" "$files"; do
        printf '        "$JS.API.STREAM.%s.'"$stream"'"\n' INFO CREATE MSG.GET
        printf '        "$JS.API.DIRECT.GET.%s"\n' "$stream"
    done
    printf '        "$JS.API.DIRECT.GET.%s"\n' "$files.>"
    # An object store is read by a consumer.
    printf '        "$JS.API.CONSUMER.%s"\n' "CREATE.$files" "CREATE.$files.>" "INFO.$files.*" "DELETE.$files.*"
    printf '        "$JS.FC.%s.>"\n' "$files"
    # Old messages are trimmed. No right deletes or changes a stream, or a key of another member.
    printf '        "$JS.API.STREAM.PURGE.%s"\n' "$log" "$pieces" "$files"
}

{
    echo "# The accounts and the rights, of make_credentials.sh: an account for each fleet, a user for each daemon."
    echo "accounts {"
    echo "  SYS {"
    echo "    users: [{user: \"system@$fleet\"}]"
    echo "  }"
    echo "  \"$fleet\" {"
    echo "    jetstream: enabled"
    echo "    users: ["
    echo "      {user: \"admin@$fleet\"}"
    for path in "$dir"/members/*.crt; do
        [[ -e $path ]] || continue
        name=$(basename "$path" .crt)
        echo "      {user: \"$name@$fleet\", permissions: {"
        echo "        subscribe: \"_INBOX.>\""
        echo "        publish: ["
        member_rights "$name"
        echo "      ]}}"
    done
    echo "    ]"
    echo "  }"
    echo "}"
    echo "system_account: SYS"
} > "$dir/server/accounts.conf"
