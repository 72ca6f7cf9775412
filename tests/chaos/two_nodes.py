"""A cluster of two nodes on this machine, until standard input ends. The second node's processes
have ``CHAOS_NODE=MARK`` in their environment.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 4, "object_store_memory": 150 << 20}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE, node_ip_address="127.0.0.2", env_vars={"CHAOS_NODE": sys.argv[1]})
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
