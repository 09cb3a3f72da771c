"""HubSpot CRM: contacts, properties, lists and e-mail subscriptions of one portal."""
