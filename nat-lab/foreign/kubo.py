"""A kubo node: a server of the DHT and a circuit relay, with its default limits, from the library that a wheel holds.

The one argument is JSON: library, repository (an empty folder), listen, known (addresses of nodes). Its identity
is RSA, as that of the nodes is that everybody begins with.
"""

import ctypes
import json
import os
import signal
import sys
import threading

# `prctl`: the signal that comes when the parent ends. Go takes all that could be handled for itself.
PR_SET_PDEATHSIG = 1


def main() -> None:
    order = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # It writes a log where it is.
    os.chdir(os.path.dirname(order["repository"]))
    kubo = ctypes.CDLL(order["library"])
    for name in ["GetNodeID", "GetNodeMultiAddrs"]:
        getattr(kubo, name).restype = ctypes.c_char_p
    repository = order["repository"].encode()
    # The library talks on standard output, which is for the lab alone.
    lab = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if (code := kubo.CreateRepo(repository)) < 0:
        sys.exit(f"kubo makes no repository: {code}")
    settle(order)
    if (code := kubo.RunNode(repository)) < 0:
        sys.exit(f"kubo does not run: {code}")
    name = kubo.GetNodeID(repository).decode()
    for address in order["listen"]:
        tell(lab, event="node_address", address=f"{address}/p2p/{name}")
    tell(lab, event="ready")
    # It is killed when it is no longer needed: what it wrote goes anyhow.
    threading.Event().wait()


def settle(order: dict) -> None:
    """Writes the few settings that make it what public nodes are."""
    path = os.path.join(order["repository"], "config")
    with open(path) as file:
        settings = json.load(file)
    settings["Bootstrap"] = order["known"]
    settings["Addresses"]["Swarm"] = order["listen"]
    settings["Addresses"]["API"] = []
    settings["Addresses"]["Gateway"] = []
    settings["Routing"] = {"Type": "dhtserver"}
    settings["Discovery"] = {"MDNS": {"Enabled": False}}
    settings["AutoNAT"] = {"ServiceMode": "enabled"}
    settings.setdefault("Swarm", {})["RelayService"] = {"Enabled": True}
    settings.setdefault("Internal", {})["Libp2pForceReachability"] = "public"
    with open(path, "w") as file:
        json.dump(settings, file)


def tell(lab, **event) -> None:
    print(json.dumps(event), file=lab, flush=True)


main()
