# The base is Debian stable slim. Where no registry is reachable `make engine` bootstraps the same from Debian's mirror.
ARG BASE_IMAGE=debian:trixie-slim

# --- icu: of ICU's 32 MB of data the part that Postfix uses: how domains of SMTPUTF8 become A-labels (UTS 46) ----------
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS icu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /tmp/icu
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends binutils icu-devtools
# The library is nothing but one object, icudt<version>_dat, in the format of icupkg(8).
# hadolint ignore=DL3003
RUN library=$(find /usr/lib -name 'libicudata.so.*.*') && name=$(basename "$library") && version=${name#libicudata.so.} \
 && version=${version%%.*} && package=icudt${version}l.dat && mkdir -p "/icu$(dirname "$library")" && mkdir part \
 && objcopy --output-target binary --only-section .rodata "$library" "$package" \
 && icupkg --list "$package" | grep -v '\.nrm$' >others.txt && icupkg --remove others.txt "$package" "part/$package" \
 && cd part && ld -r -b binary -z noexecstack -o data.o "$package" \
 && objcopy --rename-section .data=.rodata,alloc,load,readonly,data,contents --set-section-alignment .rodata=16 \
      --redefine-sym "_binary_${package%.dat}_dat_start=icudt${version}_dat" data.o \
 && ld -shared -z noexecstack -z separate-code -soname "libicudata.so.$version" -o "/icu$library" data.o \
 && strip "/icu$library"

# --- compiled: the little that is C ------------------------------------------------------------------------------------
# Two functions in the place of a library (docs/image.md), and a plugin: Debian has none for XOAUTH2 and OAUTHBEARER that
# Postfix could use; kdexoauth2 asks for the token by a callback that Postfix does not have. The compiler stays here; a
# build whose tests fail (with sanitizers, and a short fuzzing) ends here.
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS compiled
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends gcc libc6-dev libsasl2-dev
COPY native /native
RUN libraries="/replaced/usr/lib/$(gcc -print-multiarch)" && mkdir -p "$libraries" \
 && gcc -Wall -Wextra -Werror -O2 -shared -fPIC -s -Wl,-z,relro,-z,now,-soname,libnsl.so.2 \
      -Wl,--version-script=/native/nis.map -o "$libraries/libnsl.so.2.0.1" /native/nis.c
COPY plugin /plugin
RUN directory="/added/usr/lib/$(gcc -print-multiarch)/sasl2" && mkdir -p "$directory" && /plugin/build "$directory"

# --- packages: what the image runs ------------------------------------------------------------------------------------
# hadolint ignore=DL3006 # the tag is in BASE_IMAGE
FROM ${BASE_IMAGE} AS packages
# Fixed ids: a queue volume must fit the next image, too.
# libsasl2-modules carries PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5 and SCRAM; without it Postfix finds "No worthy mechs".
# hadolint ignore=DL3008 # Debian stable moves by security fixes only, and those are wanted
RUN --mount=type=bind,from=icu,source=/icu,target=/icu \
    --mount=type=bind,from=compiled,source=/replaced,target=/native \
    groupadd --gid 101 postfix && groupadd --gid 102 postdrop \
 && groupadd --gid 105 dkim && useradd --uid 103 --gid 105 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin dkim \
 && useradd --uid 100 --gid 101 --home-dir /var/spool/postfix --no-create-home --shell /usr/sbin/nologin postfix \
 && groupadd --gid 103 authrelay && useradd --uid 101 --gid 103 --groups postdrop --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin authrelay \
 && groupadd --gid 104 logins && useradd --uid 102 --gid 104 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin logins \
 && mkdir /usr/share/whole && for part in /icu/usr/lib/*/* /native/usr/lib/*/*; do \
      library=/${part#/*/} \
   && dpkg-divert --quiet --add --rename --divert "/usr/share/whole/$(basename "$library")" "$library" \
   && mkdir -p "$(dirname "$library")" && cp "$part" "$library"; \
    done \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      ca-certificates libpython3-stdlib libsasl2-modules postfix postfix-lmdb python3-minimal tzdata \
 && rm -rf /usr/share/whole /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* \
 && find /usr/share/doc -type f ! -name copyright -delete
# Postfix's own files that are no configuration move to where its meta_directory points; /etc/postfix becomes a link to
# /run, where every start writes the configuration. The names of all parameters are kept for checking POSTFIX_<name>.
RUN mkdir -p /usr/share/authrelay \
 && postconf -d >/tmp/parameters && sed 's/ =.*//' /tmp/parameters >/usr/share/authrelay/postfix-parameters \
 && rm /tmp/parameters && postconf -dh mail_version >/usr/share/authrelay/postfix-version \
 && rm -rf /etc/postfix/main.cf* /etc/postfix/master.cf* /etc/postfix/sasl \
 && mv /etc/postfix /usr/share/authrelay/postfix \
 && ln -s /run/authrelay/postfix /etc/postfix \
 && rm -rf /var/spool/postfix/* && mkdir -p /var/lib/authrelay \
 # Debian would copy files for chrooted services into the queue on every start, even when there are none.
 && echo 'SYNC_CHROOT=' >/etc/default/postfix

# What master(8) runs in the place of the two daemons that take mail in, so that those that deliver it go first where the
# processor is short: master.cf(5) has no word for that. Without it a burst is taken first, and goes out afterwards; with
# a greater number the queue runs empty between two messages, and with it Postfix forgets that sessions are worth keeping.
RUN for daemon in smtpd cleanup; do \
      printf '#!/bin/sh\nexec nice -n 5 /usr/lib/postfix/sbin/%s "$@"\n' "$daemon" >"/usr/lib/postfix/sbin/nice-$daemon" \
   && chmod 755 "/usr/lib/postfix/sbin/nice-$daemon"; \
    done

# --- venv: Python's side, from a hashed lock --------------------------------------------------------------------------
FROM packages AS venv
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv
COPY requirements.lock /
# People behind an intercepting proxy pass its CA: docker build --secret id=ca,src=/path/to/bundle.pem
RUN --mount=type=secret,id=ca \
    python3 -m venv /tmp/build && python3 -m venv --without-pip /opt/authrelay \
 && if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
 && /tmp/build/bin/pip --python /opt/authrelay/bin/python3 install --quiet --no-cache-dir --disable-pip-version-check \
      --no-compile --require-hashes --only-binary=:all: --requirement /requirements.lock
COPY entrypoint /opt/authrelay/lib/python3.13/site-packages/entrypoint
# Byte code that is never compared with its source: a start must not read both.
RUN find /opt/authrelay -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/authrelay/lib

# Templates as they are compiled, beside their sources; but the page's, which the status service reads when it is asked.
COPY templates /usr/share/authrelay/templates
WORKDIR /usr/share/authrelay/templates
RUN for template in *.conf.j2 *.cf.j2 not_about_the_message.j2; do \
      /opt/authrelay/bin/python3 -I -c 'import sys; from entrypoint.plan.templates import compile_template; \
        sys.stdout.buffer.write(compile_template(sys.argv[1], sys.argv[2]))' "$PWD" "${template%.j2}" >"${template%.j2}.code"; \
    done

# --- the image --------------------------------------------------------------------------------------------------------
FROM packages AS final
COPY --from=compiled /added /
COPY --from=venv /opt/authrelay /opt/authrelay
COPY --from=venv /usr/share/authrelay/templates /usr/share/authrelay/templates
COPY --chmod=0755 authrelay /usr/local/bin/authrelay
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="authrelay" \
      org.opencontainers.image.description="Relays mail through an upstream SMTP server over verified TLS with SASL authentication" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
EXPOSE 25 587 9154
VOLUME ["/var/spool/postfix", "/var/lib/authrelay"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s --start-interval=0.5s --retries=2 CMD ["authrelay", "health"]
ENTRYPOINT ["authrelay"]
CMD ["run"]
