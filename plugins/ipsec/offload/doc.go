// Package offload is the provider of IPsec offload for every NIC that the kernel can give
// SAs to. It watches the namespaces of ports that have a grant, and moves their SAs to the NIC and
// back; it never makes an SA, never ends one, and changes no policy.
package offload
