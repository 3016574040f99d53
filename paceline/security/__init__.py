"""Who is who, and who may do what: certificates, roles, and a count of what was refused."""
